// A value for a JSON Schema: drawn from suggestions where they conform, else made up from the seed, and always checked
// before it is handed out. Called for structured outputs and tool arguments; what it cannot satisfy it refuses.
import { isRecord } from "../chat-request.ts";
import { drawInteger, drawOne, type Rng } from "../rng.ts";
import { conforms, dependentsOf, itemsOf, propertySchemas } from "./check.ts";
import {
  isSchema,
  merge,
  numberOf,
  recordOf,
  type Schema,
  SchemaError,
  type SchemaObject,
  SchemaRoot,
  schemasOf,
  stringsOf,
  typesOf,
} from "./schema.ts";
import { drawText } from "./text-value.ts";

/** What a value is wanted for: the nearest property's name and prose, and all that the schema demands of it. */
export interface Wanted {
  /** Empty at the root. */
  readonly name: string;
  readonly description: string;
  readonly type: string;
  readonly schema: SchemaObject;
  /** Which item of a list; 0 elsewhere. */
  readonly index: number;
  /** The field may be left out: only what was really meant is worth a suggestion. */
  readonly optional: boolean;
}

export interface GenerateOptions {
  readonly rng: Rng;
  /** Values that would fit by their meaning, the best first; those that do not conform are passed over. */
  readonly suggest: (wanted: Wanted) => readonly unknown[];
  /** Optional properties that nothing suggests are left out, as a caller of a function does. */
  readonly sparse?: boolean;
}

/** Below it optional properties and items are left out, so that recursive schemas end. */
const DEPTH_OPTIONAL_MAX = 5;
const DEPTH_MAX = 40;
const TRIES = 24;
const ITEMS_MAX = 1000;

interface Place {
  readonly name: string;
  readonly description: string;
  readonly depth: number;
  readonly index: number;
  /** What was suggested did not fit: values are made up. */
  readonly madeUp?: boolean;
  readonly optional?: boolean;
}

/** Throws SchemaError (PatternError for a pattern) where no value can be found. */
export function generateValue(schema: Schema, options: GenerateOptions): unknown {
  return new Generator(new SchemaRoot(schema), options).value(schema, {
    name: "",
    description: "",
    depth: 0,
    index: 0,
  });
}

class Generator {
  private readonly root: SchemaRoot;
  private readonly rng: Rng;
  private readonly suggest: GenerateOptions["suggest"];
  private readonly sparse: boolean;

  constructor(root: SchemaRoot, { rng, suggest, sparse }: GenerateOptions) {
    this.root = root;
    this.sparse = sparse === true;
    this.rng = rng;
    this.suggest = suggest;
  }

  value(schema: Schema, place: Place): unknown {
    if (place.depth > DEPTH_MAX) throw new SchemaError("the schema has no finite value");
    const flat = this.root.flatten(schema);
    if (flat === false) throw new SchemaError("nothing conforms to the schema");
    const here = typeof flat.description === "string" ? { ...place, description: flat.description } : place;
    let refusal = new SchemaError("nothing was found that conforms to the schema");
    for (const branch of this.branchesOf(flat, here.depth)) {
      try {
        return this.fromBranch(branch, flat, here);
      } catch (error) {
        if (!(error instanceof SchemaError)) throw error;
        refusal = error;
      }
    }
    throw refusal;
  }

  /** One merged schema for each way through `anyOf`, `oneOf` and `if`; the simplest first when deep. */
  private branchesOf(flat: SchemaObject, depth: number): SchemaObject[] {
    const { anyOf, oneOf, if: condition, then, else: otherwise, ...plain } = flat;
    const ways = [anyOf, oneOf].filter(Array.isArray).map((list) => this.inOrder(schemasOf(list), depth));
    if (isSchema(condition)) ways.push([{ allOf: [condition, then ?? true] }, { allOf: [otherwise ?? true] }]);
    let branches: SchemaObject[] = [plain];
    for (const way of ways) {
      branches = way.flatMap((one) => {
        const read = this.root.flatten(one);
        if (read === false) return [];
        return branches.map((branch) => merge(branch, read)).filter((merged) => merged !== false);
      });
      branches = branches.slice(0, TRIES);
    }
    // A branch may hold choices of its own.
    return branches.flatMap((branch) =>
      hasChoice(branch) && depth < DEPTH_MAX ? this.branchesOf(branch, depth + 1) : [branch],
    );
  }

  private inOrder(schemas: readonly Schema[], depth: number): Schema[] {
    if (depth >= DEPTH_OPTIONAL_MAX) return schemas.toSorted((a, b) => sizeOf(a) - sizeOf(b));
    const first = Math.floor(this.rng() * schemas.length);
    return [...schemas.slice(first), ...schemas.slice(0, first)];
  }

  private fromBranch(branch: SchemaObject, whole: SchemaObject, place: Place): unknown {
    const types = this.typesFor(branch);
    for (const type of types) {
      for (const candidate of this.listedOr(branch, type, place))
        if (conforms(this.root, whole, candidate)) return candidate;
    }
    if (Array.isArray(branch.enum) || Object.hasOwn(branch, "const")) throw new SchemaError("no listed value conforms");
    let refusal = new SchemaError(`nothing was found for ${JSON.stringify(types)} of "${place.name}"`);
    for (let attempt = 1; attempt <= TRIES; attempt++) {
      this.root.step();
      try {
        const made = this.ofType(types[(attempt - 1) % types.length] ?? "string", branch, place, attempt);
        if (conforms(this.root, whole, made)) return made;
      } catch (error) {
        // A part that has no value has none at the second try either.
        if (!(error instanceof SchemaError)) throw error;
        refusal = error;
        if (attempt >= types.length) break;
      }
    }
    throw refusal;
  }

  /** What stands in the schema itself, else what the conversation suggests. */
  private listedOr(branch: SchemaObject, type: string, place: Place): readonly unknown[] {
    if (Object.hasOwn(branch, "const")) return [branch.const];
    const meant = place.madeUp
      ? []
      : this.suggest({ ...place, optional: place.optional === true, type, schema: branch });
    const suggested = Object.hasOwn(branch, "default") ? [...meant, branch.default] : meant;
    if (!Array.isArray(branch.enum)) return suggested;
    const first = Math.floor(this.rng() * branch.enum.length);
    return [...suggested, ...branch.enum.slice(first), ...branch.enum.slice(0, first)];
  }

  /** The named types, what says most first; without a name what the keywords are about. */
  private typesFor(branch: SchemaObject): string[] {
    const named = typesOf(branch);
    if (named !== null) return named.toSorted((a, b) => Number(a === "null") - Number(b === "null"));
    const about = (...keys: string[]): boolean => keys.some((key) => branch[key] !== undefined);
    if (about("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"))
      return ["object"];
    if (about("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains")) return ["array"];
    if (about("minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum")) return ["number"];
    return ["string", "integer", "boolean", "null", "object", "array"];
  }

  private ofType(type: string, branch: SchemaObject, place: Place, attempt: number): unknown {
    switch (type) {
      case "null":
        return null;
      case "boolean":
        return this.rng() < 0.5;
      case "integer":
      case "number":
        return drawNumber(this.rng, branch, type === "integer", attempt);
      case "array":
        return this.array(branch, place);
      case "object":
        return this.object(branch, place);
      default:
        return drawText(this.rng, branch, place.name, attempt);
    }
  }

  private array(branch: SchemaObject, place: Place): unknown[] {
    const { first, rest } = itemsOf(branch);
    const min = numberOf(branch.minItems) ?? 0;
    if (min > ITEMS_MAX) throw new SchemaError(`more than ${ITEMS_MAX} items are demanded`);
    const max = Math.min(numberOf(branch.maxItems) ?? ITEMS_MAX, rest === false ? first.length : ITEMS_MAX);
    const contained = isSchema(branch.contains) ? branch.contains : null;
    const containedCount = contained === null ? 0 : Math.min(numberOf(branch.minContains) ?? 1, ITEMS_MAX);
    const wished = place.depth >= DEPTH_OPTIONAL_MAX ? 0 : Math.max(first.length, drawInteger(this.rng, 1, 3));
    const count = Math.max(min, containedCount, Math.min(max, wished));
    const items: unknown[] = [];
    for (let tries = 0; items.length < count && tries < count + 200; tries++) {
      const index = items.length;
      const own = first[index] ?? rest;
      const schema = contained !== null && count - index <= containedCount ? { allOf: [own, contained] } : own;
      try {
        const item = this.value(schema, { ...place, depth: place.depth + 1, index: tries, madeUp: tries > index });
        if (branch.uniqueItems === true && items.some((other) => Bun.deepEquals(other, item))) continue;
        items.push(item);
      } catch (error) {
        if (!(error instanceof SchemaError) || index < Math.max(min, containedCount)) throw error;
        break;
      }
    }
    return items;
  }

  private object(branch: SchemaObject, place: Place): Record<string, unknown> {
    const properties = recordOf(branch.properties);
    const required = new Set(stringsOf(branch.required));
    const max = numberOf(branch.maxProperties) ?? Infinity;
    const wanted = new Set([...Object.keys(properties).filter((key) => required.has(key)), ...required]);
    for (const key of Object.keys(properties)) {
      if (this.sparse && !required.has(key) && !this.isMeant(key, branch, place)) continue;
      const wish = place.depth < 3 || (place.depth < DEPTH_OPTIONAL_MAX && this.rng() < 0.5);
      if (wish && wanted.size < max) wanted.add(key);
    }
    for (const key of Object.keys(properties)) if (wanted.size < (numberOf(branch.minProperties) ?? 0)) wanted.add(key);
    for (const key of wanted) for (const other of stringsOf(dependentsOf(branch)[key])) wanted.add(other);
    const made: Record<string, unknown> = {};
    // In the schema's order, as a guided decoder writes it.
    const ordered = [
      ...Object.keys(properties).filter((key) => wanted.has(key)),
      ...[...wanted].filter((key) => !Object.hasOwn(properties, key)),
    ];
    for (const key of ordered) this.fill(made, key, branch, place, required.has(key));
    this.addMore(made, branch, place);
    return made;
  }

  /** Whether a value of an optional property is suggested, and would do. */
  private isMeant(key: string, branch: SchemaObject, place: Place): boolean {
    const schema: Schema = { allOf: propertySchemas(this.root, branch, key) };
    const flat = this.root.flatten(schema);
    if (flat === false) return false;
    const description = typeof flat.description === "string" ? flat.description : "";
    return this.typesFor(flat).some((type) =>
      this.suggest({ name: key, description, type, schema: flat, index: place.index, optional: true }).some((one) =>
        conforms(this.root, schema, one),
      ),
    );
  }

  /** An optional property without a value is left out. */
  private fill(made: Record<string, unknown>, key: string, branch: SchemaObject, place: Place, needed: boolean): void {
    const schemas = propertySchemas(this.root, branch, key);
    try {
      const value = this.value(schemas.length === 1 ? (schemas[0] ?? true) : { allOf: schemas }, {
        name: key,
        description: "",
        depth: place.depth + 1,
        index: place.index,
      });
      Object.defineProperty(made, key, { value, enumerable: true, writable: true, configurable: true });
    } catch (error) {
      if (needed || !(error instanceof SchemaError)) throw error;
    }
  }

  /** Names that the schema leaves open, as many as it demands; one for a map that would otherwise be empty. */
  private addMore(made: Record<string, unknown>, branch: SchemaObject, place: Place): void {
    const isMap = isRecord(branch.additionalProperties) || isRecord(branch.patternProperties);
    const empty = Object.keys(made).length === 0 && isMap && place.depth < DEPTH_OPTIONAL_MAX;
    const min = Math.max(
      numberOf(branch.minProperties) ?? 0,
      empty && (numberOf(branch.maxProperties) ?? 1) > 0 ? 1 : 0,
    );
    if (min > ITEMS_MAX) throw new SchemaError(`more than ${ITEMS_MAX} properties are demanded`);
    const patterns = Object.keys(recordOf(branch.patternProperties));
    const names = recordOf(branch.propertyNames);
    for (let tries = 1; Object.keys(made).length < min && tries < min + 50; tries++) {
      const schema =
        patterns.length > 0 && branch.additionalProperties === false ? { pattern: drawOne(this.rng, patterns) } : names;
      const key = drawText(this.rng, this.root.flatten(schema) || {}, "key", tries);
      const allowed = propertySchemas(this.root, branch, key).every((one) => one !== false);
      if (allowed && !Object.hasOwn(made, key)) this.fill(made, key, branch, place, false);
    }
  }
}

const hasChoice = (schema: SchemaObject): boolean =>
  Array.isArray(schema.anyOf) || Array.isArray(schema.oneOf) || isSchema(schema.if);

const sizeOf = (schema: Schema): number =>
  JSON.stringify(schema).length + (JSON.stringify(schema).includes("$ref") ? 10_000 : 0);

/** A number within the limits on the grid of `multipleOf`; near 0 to 100 where there are none. */
function drawNumber(rng: Rng, schema: SchemaObject, whole: boolean, attempt: number): number {
  const step = numberOf(schema.multipleOf) ?? (whole ? 1 : null);
  const lowest = Math.max(numberOf(schema.minimum) ?? -Infinity, numberOf(schema.exclusiveMinimum) ?? -Infinity);
  const highest = Math.min(numberOf(schema.maximum) ?? Infinity, numberOf(schema.exclusiveMaximum) ?? Infinity);
  const from = lowest > -Infinity ? lowest : highest < Infinity ? Math.min(0, highest - 100 * (step ?? 1)) : 0;
  const to = highest < Infinity ? highest : Math.max(from + 100 * (step ?? 1), 100);
  if (step === null) return attempt > 20 ? from : round(from + rng() * (to - from), to - from);
  const grid = whole && !Number.isInteger(step) ? gridOf(step) : step;
  const [first, last] = [Math.ceil(from / grid), Math.floor(to / grid)];
  // The limits themselves come last: they alone may conform.
  if (attempt > 20) return Number(((first + attempt - 21) * grid).toPrecision(12));
  // A validator that divides finds 0.3 no multiple of 0.1: numbers without that trouble are tried first.
  let drawn = 0;
  for (let tries = 0; tries < 50; tries++) {
    drawn = Number((drawInteger(rng, first, Math.max(first, last)) * grid).toPrecision(12));
    if (Number.isInteger(drawn / grid)) break;
  }
  return drawn;
}

/** The smallest whole multiple of a step such as 0.5 or 2.5. */
function gridOf(step: number): number {
  for (let factor = 1; factor <= 1000; factor++) if (Number.isInteger(step * factor)) return step * factor;
  return step;
}

/** Two decimals where the span allows it: 3.14, not 3.1415926535. */
const round = (value: number, span: number): number => (span > 0.1 ? Math.round(value * 100) / 100 : value);
