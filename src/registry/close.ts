// Closes a JSON Schema: an object that lists its properties takes no others unless it says so. Without this a typing
// error in an optional field's name would be accepted in silence. Called by schema.ts on every schema; pure.
import { AppError } from "../errors.ts";

type Schema = Record<string, unknown>;

const isSchema = (value: unknown): value is Schema =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Deeper schemas are refused: nothing that people write comes near. */
const DEPTH_MAX = 64;

// JSON Schema 2019-09, section 9.2: these apply to the same object as the schema around them, so closing one of them by
// itself would refuse the fields that its neighbours name.
const IN_PLACE_LISTS = ["allOf", "anyOf", "oneOf"];
const IN_PLACE_SINGLES = ["if", "then", "else", "not"];
const CHILD_SINGLES = ["items", "additionalItems", "additionalProperties", "contains", "propertyNames"];
const CHILD_MAPS = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/**
 * A closed deep copy of `schema`, as plain JSON. Objects with `properties` get `additionalProperties: false`; where
 * several schemas describe one object (`allOf`, or `anyOf` beside `properties`) the whole gets `unevaluatedProperties:
 * false` instead. What a schema says itself about either keyword stays. Idempotent. Throws `invalid_runner` for what is
 * not JSON Schema.
 */
export function closeSchema(schema: object): object {
  let plain: unknown;
  try {
    plain = JSON.parse(JSON.stringify(schema));
  } catch (cause) {
    throw new AppError("invalid_runner", "a schema must be plain JSON", { cause });
  }
  if (!isSchema(plain)) throw new AppError("invalid_runner", "a schema must be an object");
  close(plain, false, 0);
  return plain;
}

function close(schema: unknown, inPlace: boolean, depth: number): void {
  if (typeof schema === "boolean") return;
  if (!isSchema(schema)) throw new AppError("invalid_runner", "a schema must be an object or a boolean");
  if (depth > DEPTH_MAX) throw new AppError("invalid_runner", `a schema must not be nested deeper than ${DEPTH_MAX}`);

  const applicators = [
    ...IN_PLACE_LISTS.flatMap((name) => (Array.isArray(schema[name]) ? schema[name] : [])),
    ...IN_PLACE_SINGLES.flatMap((name) => (name in schema ? [schema[name]] : [])),
  ];
  const listsFields = "properties" in schema;
  // A bare choice between schemas ({anyOf: […]}) closes each of them; else the whole is what must be closed.
  const shared = applicators.length > 0 && (listsFields || "allOf" in schema || "if" in schema);
  const saysItself = "additionalProperties" in schema || "unevaluatedProperties" in schema;
  if (!inPlace && !saysItself) {
    if (shared && (listsFields || applicators.some(describesObject))) schema.unevaluatedProperties = false;
    else if (listsFields) schema.additionalProperties = false;
  }
  for (const member of applicators) close(member, inPlace || shared || member === schema.not, depth + 1);

  for (const name of CHILD_SINGLES) {
    const child = schema[name];
    if (Array.isArray(child)) for (const item of child) close(item, false, depth + 1);
    else if (child !== undefined) close(child, false, depth + 1);
  }
  for (const name of CHILD_MAPS) {
    const children = schema[name];
    if (!isSchema(children)) continue;
    for (const child of Object.values(children)) close(child, name === "dependentSchemas", depth + 1);
  }
}

function describesObject(schema: unknown): boolean {
  if (!isSchema(schema)) return false;
  if ("properties" in schema) return true;
  return [...IN_PLACE_LISTS, ...IN_PLACE_SINGLES].some((name) => {
    const below = schema[name];
    return Array.isArray(below) ? below.some(describesObject) : describesObject(below);
  });
}
