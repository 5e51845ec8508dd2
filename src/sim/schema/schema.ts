// JSON Schema (2020-12, and what older drafts and OpenAPI say otherwise) as the simulator reads it: references followed,
// `allOf` merged into one. Called by check.ts and generate.ts; it decides nothing about values.
import { isRecord } from "../chat-request.ts";
import { type Pattern, parsePattern } from "./pattern.ts";

export type SchemaObject = Readonly<Record<string, unknown>>;
export type Schema = boolean | SchemaObject;

/** No value, too large, or a keyword that the simulator does not know how to obey. */
export class SchemaError extends Error {}

/** Steps of reading, checking and generating together: a schema that needs more is hostile. */
const STEPS_MAX = 200_000;

export class SchemaRoot {
  private steps = 0;
  private readonly root: Schema;
  private readonly patterns = new Map<string, Pattern>();

  constructor(root: Schema) {
    this.root = root;
  }

  /** Throws SchemaError once all of it took too long. */
  step(): void {
    if (++this.steps > STEPS_MAX) throw new SchemaError("the schema is too complex");
  }

  /** Parsed once: many values are tried against it. Throws PatternError. */
  pattern(source: string): Pattern {
    const known = this.patterns.get(source) ?? parsePattern(source);
    this.patterns.set(source, known);
    return known;
  }

  /** Where a reference leads: a pointer into this document, `#anchor`, or the `$id` of a part. */
  follow(reference: string): Schema {
    this.step();
    const [base = "", fragment = ""] = reference.split("#", 2);
    const document = base === "" ? this.root : findBy(this.root, "$id", base);
    const found =
      fragment === "" || fragment.startsWith("/") ? pointed(document, fragment) : findBy(document, "$anchor", fragment);
    if (!isSchema(found)) throw new SchemaError(`$ref ${reference} leads nowhere`);
    return found;
  }

  /** Without `$ref` and `allOf`: one object of keywords, `anyOf` and the like kept. False where nothing can conform. */
  flatten(schema: Schema, depth = 0): SchemaObject | false {
    this.step();
    if (depth > 40) throw new SchemaError("references go round in a circle");
    if (schema === true) return {};
    if (schema === false) return false;
    if (schema.$dynamicRef !== undefined) throw new SchemaError("$dynamicRef is not supported");
    const { $ref, allOf, ...own } = schema;
    const parts: (SchemaObject | false)[] = [withoutNullable(own)];
    if (typeof $ref === "string") parts.push(this.flatten(this.follow($ref), depth + 1));
    for (const part of schemasOf(allOf)) parts.push(this.flatten(part, depth + 1));
    return parts.reduce((merged, part) => (merged === false || part === false ? false : merge(merged, part)));
  }
}

export const isSchema = (value: unknown): value is Schema => typeof value === "boolean" || isRecord(value);

export const schemasOf = (value: unknown): Schema[] => (Array.isArray(value) ? value.filter(isSchema) : []);

export const recordOf = (value: unknown): SchemaObject => (isRecord(value) ? value : {});

export const stringsOf = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];

export const numberOf = (value: unknown): number | null => (typeof value === "number" ? value : null);

/** The types that a schema names, null where it names none; OpenAPI's `nullable` is already one of them. */
export const typesOf = ({ type }: SchemaObject): string[] | null =>
  typeof type === "string" ? [type] : Array.isArray(type) ? stringsOf(type) : null;

/** OpenAPI 3.0's `nullable`, and its boolean `exclusiveMinimum` of draft 4, in today's words. */
function withoutNullable(schema: SchemaObject): SchemaObject {
  const { nullable, ...rest } = schema;
  let read: SchemaObject = rest;
  if (nullable === true && rest.type !== undefined) read = { ...read, type: [...(typesOf(rest) ?? []), "null"] };
  if (nullable === true && Array.isArray(rest.enum)) read = { ...read, enum: [...rest.enum, null] };
  for (const [exclusive, limit] of [
    ["exclusiveMinimum", "minimum"],
    ["exclusiveMaximum", "maximum"],
  ] as const) {
    if (typeof read[exclusive] !== "boolean") continue;
    const { [exclusive]: on, [limit]: value, ...others } = read;
    read = { ...others, [on === true ? exclusive : limit]: value };
  }
  return read;
}

const largest = new Set(["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"]);
const smallest = new Set(["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"]);
const subschemas = new Set(["items", "additionalProperties", "propertyNames", "contains"]);
const prose = new Set([
  "title",
  "description",
  "default",
  "examples",
  "example",
  "$comment",
  "$id",
  "$schema",
  "$anchor",
]);
const maps = new Set(["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"]);

/** What both demand. Keywords that cannot be merged (two patterns, two `anyOf`) wait under `allOf` for the check. */
export function merge(a: SchemaObject, b: SchemaObject): SchemaObject | false {
  const merged: Record<string, unknown> = { ...a, ...closed(a, b) };
  const both: Schema[] = [...schemasOf(a.allOf), ...objectRules(a, b), ...objectRules(b, a)];
  for (const [key, theirs] of Object.entries({ ...b, ...closed(b, a) })) {
    const ours = merged[key];
    if (key === "allOf") both.push(...schemasOf(theirs));
    else if (ours === undefined) merged[key] = theirs;
    else if (largest.has(key)) merged[key] = Math.max(Number(ours), Number(theirs));
    else if (smallest.has(key)) merged[key] = Math.min(Number(ours), Number(theirs));
    else if (key === "type") merged.type = commonTypes(a, b);
    else if (key === "required") merged.required = [...new Set([...stringsOf(ours), ...stringsOf(theirs)])];
    else if (key === "enum" && Array.isArray(ours) && Array.isArray(theirs)) merged.enum = ours.filter(within(theirs));
    else if (maps.has(key)) merged[key] = mergeMaps(recordOf(ours), recordOf(theirs));
    else if (subschemas.has(key)) merged[key] = { allOf: [ours, theirs] };
    else if (!prose.has(key) && !Bun.deepEquals(ours, theirs)) both.push({ [key]: theirs });
  }
  if (both.length > 0) merged.allOf = both;
  const nothing = [merged.type, merged.enum].some((list) => Array.isArray(list) && list.length === 0);
  return nothing ? false : merged;
}

/** `additionalProperties` speaks of the properties beside it alone: merged with others, the check still needs both. */
function objectRules(mine: SchemaObject, others: SchemaObject): SchemaObject[] {
  const { properties, patternProperties, additionalProperties } = mine;
  const apart = additionalProperties !== undefined && additionalProperties !== true;
  return apart && (others.properties ?? others.patternProperties) !== undefined
    ? [
        {
          ...(properties !== undefined && { properties }),
          ...(patternProperties !== undefined && { patternProperties }),
          additionalProperties,
        },
      ]
    : [];
}

/** My properties with what the others' `additionalProperties` demands of those that they do not name. */
function closed(
  mine: SchemaObject,
  { properties, patternProperties, additionalProperties }: SchemaObject,
): SchemaObject {
  if (!isSchema(additionalProperties) || mine.properties === undefined || patternProperties !== undefined) return {};
  const named = recordOf(properties);
  const restricted = Object.entries(recordOf(mine.properties)).map(([key, schema]): [string, unknown] =>
    Object.hasOwn(named, key) ? [key, schema] : [key, { allOf: [schema, additionalProperties] }],
  );
  return { properties: Object.fromEntries(restricted) };
}

const within =
  (list: readonly unknown[]) =>
  (item: unknown): boolean =>
    list.some((other) => Bun.deepEquals(item, other));

function commonTypes(a: SchemaObject, b: SchemaObject): string[] {
  const [ours, theirs] = [typesOf(a) ?? [], typesOf(b) ?? []];
  const covers = (types: readonly string[], type: string): boolean =>
    types.includes(type) || (type === "integer" && types.includes("number"));
  return [...new Set([...ours, ...theirs])].filter((type) => covers(ours, type) && covers(theirs, type));
}

function mergeMaps(a: SchemaObject, b: SchemaObject): SchemaObject {
  const merged = new Map(Object.entries(a));
  for (const [key, value] of Object.entries(b)) merged.set(key, merged.has(key) ? { allOf: [a[key], value] } : value);
  return Object.fromEntries(merged);
}

function pointed(document: unknown, fragment: string): unknown {
  let at: unknown = document;
  for (const token of fragment.split("/").slice(1)) {
    const key = decoded(token).replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}

function decoded(token: string): string {
  try {
    return decodeURIComponent(token);
  } catch {
    return token;
  }
}

function findBy(document: unknown, key: string, name: string): unknown {
  if (typeof document !== "object" || document === null) return undefined;
  if (isRecord(document) && document[key] === name) return document;
  for (const value of Object.values(document)) {
    const found = findBy(value, key, name);
    if (found !== undefined) return found;
  }
  return undefined;
}
