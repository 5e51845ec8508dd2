// The one validator: request bodies and task inputs in the gateway, inputs and outputs in the actor. A compiled check
// is pure and safe against hostile values: bounded depth, bounded list of problems, no rejected value in a message.
import { Ajv2019, type ValidateFunction } from "ajv/dist/2019.js";
import { AppError, type FieldProblem, messageOf } from "../errors.ts";
import { closeSchema } from "./close.ts";
import { FILE_KEYWORD, isFileOutput } from "./file.ts";
import { escapePointer, PATH_CHARS_MAX, problemsOf } from "./problems.ts";

/** Problems of a value, at most 20; empty when it is valid. `path` is a JSON Pointer from the value's root. */
export type Check = (value: unknown) => readonly FieldProblem[];

export type Formats = Readonly<Record<string, (text: string) => boolean>>;

export interface SchemaOptions {
  /** Formats beside `date-time`, `date` and `uuid`. A format that nobody knows is an annotation and checks nothing. */
  readonly formats?: Formats;
  /**
   * Values from a client (the default) are also searched for own `__proto__` keys, NUL characters and nesting deeper
   * than 64, wherever the schema leaves room for them. A runner's are not: they may hold bytes.
   */
  readonly from?: "client" | "runner";
}

/** Deeper values are refused: checking them recurses, and nothing that people send comes near. */
const DEPTH_MAX = 64;

/**
 * Values up to this weight (nodes plus characters) are checked to the end to report every problem. Larger ones stop at
 * the first: a hostile array would otherwise make one error an item, and a pattern would run on a string that maxLength
 * has refused already.
 */
const FULL_REPORT_WEIGHT_MAX = 4_096;

const NONE: readonly FieldProblem[] = Object.freeze([]);

const builtInFormats: Formats = {
  "date-time": (text) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i.test(text) && isDay(text),
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text) && isDay(text),
  uuid: (text) => /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text),
};

/** Whether the text begins with a day that the calendar has (Date.parse alone may take February 31st). */
function isDay(text: string): boolean {
  const day = text.slice(0, 10);
  const at = Date.parse(`${day}T00:00:00Z`);
  return !Number.isNaN(at) && !Number.isNaN(Date.parse(text)) && new Date(at).toISOString().startsWith(day);
}

/**
 * Compiles `schema` (JSON Schema 2019-09, TypeBox's included), closed as closeSchema does. Costs milliseconds: once a
 * schema, not once a value. Throws `invalid_runner` when the schema does not compile.
 */
export function compileSchema(schema: object, options: SchemaOptions = {}): Check {
  const closed = closeSchema(schema);
  const validate = compile(closed, options.formats, false);
  let validateAll: ValidateFunction | null = null;
  const report = (value: unknown): readonly FieldProblem[] => {
    if (weight(value, FULL_REPORT_WEIGHT_MAX) > FULL_REPORT_WEIGHT_MAX) return problemsOf(validate.errors ?? []);
    validateAll ??= compile(closed, options.formats, true);
    validateAll(value);
    return problemsOf(validateAll.errors ?? []);
  };
  if (options.from === "runner") return (value) => (validate(value) ? NONE : report(value));
  return (value) => {
    const found = hazard(value, 0);
    if (found) return [found];
    return validate(value) ? NONE : report(value);
  };
}

function compile(schema: object, formats: Formats | undefined, allErrors: boolean): ValidateFunction {
  // An Ajv of its own for each schema, so that two schemas may carry the same $id (TypeBox's Recursive does). Without
  // the check against the meta schema: it costs 45 ms a compilation, and ajv refuses misused keywords without it.
  const ajv = new Ajv2019({
    allErrors,
    logger: false,
    meta: false,
    ownProperties: true,
    strict: false,
    strictNumbers: true, // NaN and infinities are no JSON
    validateSchema: false,
    verbose: true,
  });
  ajv.addKeyword({
    keyword: FILE_KEYWORD,
    schemaType: "string",
    errors: false,
    validate: (declared: string, value: unknown) => isFileOutput(value, declared),
  });
  for (const [name, isValid] of Object.entries({ ...builtInFormats, ...formats })) ajv.addFormat(name, isValid);
  try {
    return ajv.compile(schema);
  } catch (cause) {
    throw new AppError("invalid_runner", `the schema does not compile: ${messageOf(cause)}`, { cause });
  }
}

/** The first thing in a client's value that no schema may let through. */
function hazard(value: unknown, depth: number): FieldProblem | null {
  if (typeof value === "string") return value.includes("\0") ? { path: "", message: NUL_MESSAGE } : null;
  if (typeof value !== "object" || value === null) return null;
  if (depth === DEPTH_MAX) return { path: "", message: `must not be nested deeper than ${DEPTH_MAX} levels` };
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const found = hazard(value[i], depth + 1);
      if (found) return below(i, found);
    }
    return null;
  }
  for (const key of Object.keys(value)) {
    if (key === "__proto__") return { path: "/__proto__", message: "is not a known field" };
    if (key.includes("\0")) return { path: "", message: NUL_MESSAGE };
    const found = hazard((value as Record<string, unknown>)[key], depth + 1);
    if (found) return below(key, found);
  }
  return null;
}

const NUL_MESSAGE = "must not contain a NUL character";

const below = (key: string | number, found: FieldProblem): FieldProblem => ({
  path: `/${escapePointer(String(key))}${found.path}`.slice(0, PATH_CHARS_MAX),
  message: found.message,
});

/** Nodes plus characters of a value; counts on to a little above `max` at most. */
function weight(value: unknown, max: number): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 1;
  if (value instanceof Uint8Array) return 1;
  let sum = 1;
  for (const key in value) {
    sum += key.length + weight((value as Record<string, unknown>)[key], max - sum);
    if (sum > max) break;
  }
  return sum;
}
