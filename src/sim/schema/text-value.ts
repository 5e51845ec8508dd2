// A made-up string for a schema: of its format, of its pattern, or plain words of the demanded length. Called by
// generate.ts, which checks what comes out.
import { drawInteger, drawOne, type Rng } from "../rng.ts";
import { drawFormat } from "./formats.ts";
import { parsePattern } from "./pattern.ts";
import { numberOf, SchemaError, type SchemaObject, schemasOf } from "./schema.ts";

const LENGTH_MAX = 20_000;

const words =
  "mill river stone water wheel garden bridge morning paper window harbour forest light autumn letter market silver " +
  "north cotton field winter copper valley summer ladder meadow basket candle orchard pepper";

/** What a field of that name would hold, for those that the conversation says nothing of. */
const samples: readonly (readonly [RegExp, string])[] = [
  [/city|location|place|town|destination|origin|stadt/i, "Berlin Lisbon Oslo Rome Vienna Zurich"],
  [/country|land$/i, "Austria Germany Italy Norway Portugal"],
  [/name|person|author|user|customer|patient/i, "Anna Ben Clara David Emma Felix"],
  [/language|locale/i, "en de fr"],
  [/currency/i, "EUR USD"],
  [/colou?r/i, "blue green red"],
];

/** One string; a higher `attempt` (from 1) tries longer ones. Throws SchemaError and PatternError. */
export function drawText(rng: Rng, schema: SchemaObject, name: string, attempt: number): string {
  const min = numberOf(schema.minLength) ?? 0;
  const max = numberOf(schema.maxLength) ?? Infinity;
  if (min > LENGTH_MAX) throw new SchemaError(`a string of more than ${LENGTH_MAX} characters is demanded`);
  const patterns = [
    schema.pattern,
    ...schemasOf(schema.allOf).map((one) => (one === true || one === false ? null : one.pattern)),
  ];
  const pattern = patterns.filter((one) => typeof one === "string").at((attempt - 1) % Math.max(1, patterns.length));
  if (typeof pattern === "string") {
    const drawn = parsePattern(pattern).draw(rng, { min, max });
    // An open end may be filled up: the pattern is found in it all the same.
    return pattern.endsWith("$") ? drawn : drawn.padEnd(min, "a");
  }
  const formatted = typeof schema.format === "string" ? drawFormat(rng, schema.format) : null;
  if (formatted !== null) return formatted;
  const sample = samples.find(([field]) => field.test(name))?.[1].split(" ");
  const fitting = sample?.filter((one) => one.length >= min && one.length <= max) ?? [];
  if (fitting.length > 0 && attempt <= 2) return drawOne(rng, fitting);
  const list = words.split(" ");
  const count = /name|title|city|word|key|id$/i.test(name) ? 1 : drawInteger(rng, 2, 4);
  let text = Array.from({ length: count }, () => drawOne(rng, list)).join(" ");
  while (text.length < min) text += ` ${drawOne(rng, list)}`;
  return text.slice(0, Math.max(min, Math.min(max, text.length))).slice(0, max);
}
