// Whether a value conforms to a JSON Schema. The generator checks with it all that it hands out, so a value that does
// not conform never leaves. Called by generate.ts; it never runs a stranger's pattern in a backtracking engine.
import { isRecord } from "../chat-request.ts";
import { hasFormat } from "./formats.ts";
import {
  isSchema,
  numberOf,
  recordOf,
  type Schema,
  type SchemaObject,
  type SchemaRoot,
  schemasOf,
  stringsOf,
  typesOf,
} from "./schema.ts";

type Verdict = (root: SchemaRoot, schema: SchemaObject, value: unknown) => boolean;

/** Keywords that the simulator does not know are ignored, as JSON Schema wants it. Throws SchemaError and PatternError. */
export function conforms(root: SchemaRoot, schema: Schema, value: unknown): boolean {
  const flat = root.flatten(schema);
  return flat !== false && verdicts.every((verdict) => verdict(root, flat, value));
}

const rightType: Verdict = (_root, schema, value) => {
  const types = typesOf(schema);
  return types === null || types.some((type) => isOfType(type, value));
};

function isOfType(type: string, value: unknown): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isRecord(value);
    case "integer":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number" && Number.isFinite(value);
    default:
      return typeof value === type;
  }
}

const listed: Verdict = (_root, schema, value) =>
  (!Array.isArray(schema.enum) || schema.enum.some((item) => Bun.deepEquals(item, value))) &&
  (!Object.hasOwn(schema, "const") || Bun.deepEquals(schema.const, value));

const rightNumber: Verdict = (_root, schema, value) => {
  if (typeof value !== "number") return true;
  const step = numberOf(schema.multipleOf);
  return (
    value >= (numberOf(schema.minimum) ?? -Infinity) &&
    value <= (numberOf(schema.maximum) ?? Infinity) &&
    value > (numberOf(schema.exclusiveMinimum) ?? -Infinity) &&
    value < (numberOf(schema.exclusiveMaximum) ?? Infinity) &&
    (step === null || isMultiple(value, step))
  );
};

/** By division, with room for what binary fractions cannot say: 0.3 is a multiple of 0.1. */
const isMultiple = (value: number, step: number): boolean =>
  Math.abs(value / step - Math.round(value / step)) <= 1e-12 * Math.max(1, Math.abs(value / step));

const rightText: Verdict = (root, schema, value) => {
  if (typeof value !== "string") return true;
  const length = [...value].length;
  return (
    length >= (numberOf(schema.minLength) ?? 0) &&
    length <= (numberOf(schema.maxLength) ?? Infinity) &&
    (typeof schema.pattern !== "string" || root.pattern(schema.pattern).matches(value, false)) &&
    (typeof schema.format !== "string" || hasFormat(schema.format, value))
  );
};

const rightItems: Verdict = (root, schema, value) => {
  if (!Array.isArray(value)) return true;
  if (value.length < (numberOf(schema.minItems) ?? 0) || value.length > (numberOf(schema.maxItems) ?? Infinity))
    return false;
  if (schema.uniqueItems === true && !areUnique(value)) return false;
  const { first, rest } = itemsOf(schema);
  if (!value.every((item, index) => conforms(root, first[index] ?? rest, item))) return false;
  if (!isSchema(schema.contains)) return true;
  const contained = schema.contains;
  const count = value.filter((item) => conforms(root, contained, item)).length;
  return count >= (numberOf(schema.minContains) ?? 1) && count <= (numberOf(schema.maxContains) ?? Infinity);
};

/** The schemas of the first items and of all others, in either draft's words. */
export function itemsOf(schema: SchemaObject): { first: Schema[]; rest: Schema } {
  const tuple = Array.isArray(schema.items) ? schema.items : schema.prefixItems;
  const rest = Array.isArray(schema.items) ? schema.additionalItems : schema.items;
  return { first: schemasOf(tuple), rest: isSchema(rest) ? rest : true };
}

const areUnique = (items: readonly unknown[]): boolean =>
  items.every((item, index) => !items.slice(0, index).some((other) => Bun.deepEquals(item, other)));

const rightProperties: Verdict = (root, schema, value) => {
  if (!isRecord(value)) return true;
  const keys = Object.keys(value);
  if (keys.length < (numberOf(schema.minProperties) ?? 0) || keys.length > (numberOf(schema.maxProperties) ?? Infinity))
    return false;
  if (!stringsOf(schema.required).every((key) => Object.hasOwn(value, key))) return false;
  if (!keys.every((key) => propertySchemas(root, schema, key).every((one) => conforms(root, one, value[key]))))
    return false;
  const names = schema.propertyNames;
  if (isSchema(names) && !keys.every((key) => conforms(root, names, key))) return false;
  for (const [key, needed] of Object.entries(dependentsOf(schema))) {
    if (!Object.hasOwn(value, key)) continue;
    if (
      isSchema(needed)
        ? !conforms(root, needed, value)
        : !stringsOf(needed).every((other) => Object.hasOwn(value, other))
    )
      return false;
  }
  return true;
};

/** What a property of that name must conform to: its own schema, those of matching patterns, else the additional one. */
export function propertySchemas(root: SchemaRoot, schema: SchemaObject, key: string): Schema[] {
  const properties = recordOf(schema.properties);
  const found = Object.hasOwn(properties, key) ? [properties[key]] : [];
  for (const [pattern, one] of Object.entries(recordOf(schema.patternProperties))) {
    if (root.pattern(pattern).matches(key, false)) found.push(one);
  }
  if (found.length === 0 && schema.additionalProperties !== undefined) found.push(schema.additionalProperties);
  return found.filter(isSchema);
}

/** Names or a schema that a property's presence demands; `dependencies` was the older word for both. */
export const dependentsOf = (schema: SchemaObject): SchemaObject => ({
  ...recordOf(schema.dependencies),
  ...recordOf(schema.dependentRequired),
  ...recordOf(schema.dependentSchemas),
});

const rightCombination: Verdict = (root, schema, value) => {
  const passes = (one: Schema): boolean => conforms(root, one, value);
  if (!schemasOf(schema.allOf).every(passes)) return false;
  if (Array.isArray(schema.anyOf) && !schemasOf(schema.anyOf).some(passes)) return false;
  if (Array.isArray(schema.oneOf) && schemasOf(schema.oneOf).filter(passes).length !== 1) return false;
  if (isSchema(schema.not) && passes(schema.not)) return false;
  if (!isSchema(schema.if)) return true;
  const branch = passes(schema.if) ? schema.then : schema.else;
  return !isSchema(branch) || passes(branch);
};

const verdicts: readonly Verdict[] = [
  rightType,
  listed,
  rightNumber,
  rightText,
  rightItems,
  rightProperties,
  rightCombination,
];
