import { expect, test } from "bun:test";
import Ajv from "ajv/dist/2020";
import { createRng, drawInteger, drawOne, type Rng } from "../rng.ts";
import { generateValue } from "./generate.ts";
import { type Schema, SchemaError } from "./schema.ts";

const SCHEMAS = 200;

/** The validator's own formats are in a package we do not have: each is told by the platform. */
const formats = {
  date: (text: string) => new Date(`${text}T00:00:00Z`).toISOString().startsWith(text),
  "date-time": (text: string) => /T.*(Z|[+-]\d\d:\d\d)$/.test(text) && !Number.isNaN(Date.parse(text)),
  time: (text: string) => !Number.isNaN(Date.parse(`2020-01-01T${text}`)),
  email: /^[^@\s]+@[^@\s]+\.[a-z]+$/,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  uri: (text: string) => URL.canParse(text),
  ipv4: /^\d+\.\d+\.\d+\.\d+$/,
  hostname: /^[a-z0-9.-]+$/i,
};

const ajv = new Ajv({ strict: false, formats });

/** What a validator says against the values, each as a client reads it. */
function problems(schema: Record<string, unknown>, values: readonly unknown[]): unknown[] {
  const validate = ajv.compile(schema);
  return values.flatMap((value) =>
    validate(JSON.parse(JSON.stringify(value))) ? [] : [{ value, errors: validate.errors }],
  );
}

const generate = (schema: Schema, seed = "s", suggest: readonly unknown[] = []): unknown =>
  generateValue(schema, { rng: createRng(seed), suggest: () => suggest });

/** A schema that has values, by construction; `depth` counts down to leaves. */
function randomSchema(rng: Rng, depth: number): Record<string, unknown> {
  const deep = depth > 0;
  const kinds = ["string", "text", "integer", "number", "boolean", "null", "enum", "const", "union", "ref"];
  const kind = drawOne(
    rng,
    deep ? [...kinds, "array", "tuple", "object", "object", "anyOf", "oneOf", "allOf", "map"] : kinds,
  );
  const from = drawInteger(rng, -50, 50);
  switch (kind) {
    case "string":
      return { type: "string", minLength: drawInteger(rng, 0, 5), maxLength: drawInteger(rng, 5, 30) };
    case "text":
      return drawOne(rng, [
        {
          type: "string",
          pattern: drawOne(rng, ["^[A-Z]{3}-\\d{2,4}$", "(foo|bar)+", "^\\w+@\\w+\\.(com|org)$", "[^a-z]x?$"]),
        },
        { type: "string", format: drawOne(rng, Object.keys(formats)) },
        { type: "string", pattern: "^[a-f0-9]+$", minLength: 8, maxLength: 8 + drawInteger(rng, 0, 4) },
      ]);
    case "integer":
      return {
        type: "integer",
        minimum: from,
        maximum: from + drawInteger(rng, 7, 90),
        multipleOf: drawOne(rng, [1, 2, 7]),
      };
    case "number":
      return { type: "number", exclusiveMinimum: from, maximum: from + 3, multipleOf: drawOne(rng, [0.5, 0.01, 0.1]) };
    case "enum":
      return { enum: ["a", 1, null, { deep: [1] }].slice(0, drawInteger(rng, 1, 4)) };
    case "const":
      return { const: drawOne<unknown>(rng, ["x", 4, [1, 2], { a: null }]) };
    case "union":
      return { type: [drawOne(rng, ["string", "number"]), "null"], maxLength: 9 };
    case "ref":
      return { $ref: drawOne(rng, ["#/$defs/node", "#/$defs/leaf"]) };
    case "array":
      return { type: "array", items: randomSchema(rng, depth - 1), minItems: drawInteger(rng, 0, 2), maxItems: 5 };
    case "tuple":
      return {
        type: "array",
        prefixItems: [randomSchema(rng, depth - 1), randomSchema(rng, 0)],
        items: false,
        minItems: 1,
      };
    case "anyOf":
    case "oneOf":
      // Distinct types: exactly one branch of a oneOf may hold.
      return {
        [kind]: [
          { type: "string", minLength: 2 },
          { type: "object", properties: { v: randomSchema(rng, depth - 1) } },
        ],
      };
    case "allOf":
      // Open: an object that allows integers alone beside its own would contradict `extra`.
      return {
        allOf: [
          { ...randomObject(rng, depth - 1), additionalProperties: true },
          { properties: { extra: randomSchema(rng, 0) }, required: ["extra"] },
        ],
      };
    case "map":
      return {
        type: "object",
        additionalProperties: randomSchema(rng, depth - 1),
        minProperties: drawInteger(rng, 0, 3),
      };
    case "object":
      return randomObject(rng, depth - 1);
    default:
      return { type: kind };
  }
}

function randomObject(rng: Rng, depth: number): Record<string, unknown> {
  const keys = ["name", "age", "city", "tags", "a/b"].slice(0, drawInteger(rng, 1, 5));
  const properties = Object.fromEntries(keys.map((key) => [key, randomSchema(rng, depth)]));
  const required = keys.filter(() => rng() < 0.6);
  return { type: "object", properties, required, ...(rng() < 0.5 && { additionalProperties: { type: "integer" } }) };
}

const definitions = {
  node: {
    type: "object",
    properties: { value: { type: "integer" }, children: { type: "array", items: { $ref: "#/$defs/node" } } },
    required: ["value"],
    additionalProperties: false,
  },
  leaf: { type: "array", items: { type: "string" }, uniqueItems: true, minItems: 2, maxItems: 4 },
};

test(`${SCHEMAS} random schemas have a value that a validator accepts`, () => {
  for (let index = 0; index < SCHEMAS; index++) {
    const seed = `schema-${index}`;
    const schema = { $defs: definitions, ...randomSchema(createRng(seed), 3) };
    const value = generate(schema, seed, ["hello there", 12, "Anna", true]);
    const text = JSON.stringify({ seed, schema, value });
    expect(problems(schema, [value]), text).toEqual([]);
    expect(generate(schema, seed, ["hello there", 12, "Anna", true])).toEqual(value as never);
  }
});

const cases: readonly [name: string, schema: Record<string, unknown>][] = [
  [
    "a recursive tree",
    {
      $ref: "#/$defs/t",
      $defs: {
        t: {
          type: "object",
          required: ["next"],
          properties: { next: { anyOf: [{ $ref: "#/$defs/t" }, { type: "null" }] } },
        },
      },
    },
  ],
  [
    "a linked list that must end by its branch",
    { anyOf: [{ type: "array", items: { $ref: "#" }, minItems: 1 }, { type: "integer" }] },
  ],
  ["unique items of a small enum", { type: "array", items: { enum: [1, 2, 3] }, uniqueItems: true, minItems: 3 }],
  ["unique booleans", { type: "array", items: { type: "boolean" }, uniqueItems: true, minItems: 2 }],
  [
    "oneOf with overlap",
    {
      oneOf: [
        { type: "integer", minimum: 0 },
        { type: "integer", maximum: 10 },
      ],
    },
  ],
  ["not", { type: "string", not: { enum: ["mill"] }, minLength: 1 }],
  [
    "if and then",
    {
      type: "object",
      properties: { kind: { enum: ["a"] } },
      required: ["kind"],
      if: { properties: { kind: { const: "a" } } },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: { required: ["a"], properties: { a: { type: "integer" } } },
    },
  ],
  [
    "dependent properties",
    {
      type: "object",
      properties: { card: { type: "integer" } },
      required: ["card"],
      dependentRequired: { card: ["address"] },
    },
  ],
  [
    "patternProperties alone",
    {
      type: "object",
      patternProperties: { "^x-[a-z]{2,4}$": { type: "number" } },
      additionalProperties: false,
      minProperties: 2,
    },
  ],
  [
    "contains",
    {
      type: "array",
      items: { type: ["integer", "string"] },
      contains: { type: "string" },
      minContains: 2,
      minItems: 4,
    },
  ],
  ["a narrow float", { type: "number", exclusiveMinimum: 0, exclusiveMaximum: 0.001 }],
  ["a float grid", { type: "number", multipleOf: 0.1, minimum: 0.25, maximum: 0.95 }],
  ["huge minimum", { type: "integer", minimum: 9_007_199_254_740_000 }],
  ["a whole number on a grid of halves", { type: "integer", multipleOf: 1.5, minimum: 1, maximum: 4 }],
  ["allOf of limits", { allOf: [{ type: "integer", minimum: 3 }, { maximum: 3 }] }],
  ["two patterns", { allOf: [{ type: "string", pattern: "^a" }, { pattern: "^ab+$" }] }],
  ["a long string", { type: "string", minLength: 1000 }],
  ["a long pattern", { type: "string", pattern: "^[a-z ]+$", minLength: 60, maxLength: 80 }],
  [
    "propertyNames",
    {
      type: "object",
      propertyNames: { pattern: "^[a-z]{3}$" },
      minProperties: 2,
      additionalProperties: { type: "boolean" },
    },
  ],
  [
    "additional properties of one part of allOf",
    {
      allOf: [
        {
          type: "object",
          properties: { a: { type: "string" } },
          required: ["a"],
          additionalProperties: { type: "integer" },
        },
        { properties: { b: { type: ["string", "integer"] } }, required: ["b"] },
      ],
    },
  ],
  ["any value", {}],
  ["an astral string", { type: "string", pattern: "^😀{2}$", maxLength: 2 }],
];
test.each(cases)("%s", (_name, schema) => {
  const values = Array.from({ length: 20 }, (_, seed) => generate(schema, String(seed)));
  expect(problems(schema, values)).toEqual([]);
});

test("OpenAPI's nullable and draft 4's exclusiveMinimum are read", () => {
  const schema = { type: "number", minimum: 1, exclusiveMinimum: true, maximum: 2, multipleOf: 0.5, nullable: true };
  for (const seed of ["1", "2", "3", "4"]) expect([1.5, 2, null]).toContain(generate(schema, seed) as number);
});

test("0.3 counts as a multiple of 0.1 where nothing else is left", () => {
  expect(generate({ type: "number", multipleOf: 0.1, minimum: 0.25, maximum: 0.35 })).toBe(0.3);
});

test("a property of any name is a property, and pollutes nothing", () => {
  const schema = JSON.parse(
    '{"type":"object","properties":{"__proto__":{"const":"x"}},"required":["__proto__","constructor"]}',
  );
  const value = generate(schema) as object;
  expect(Object.keys(value)).toEqual(["__proto__", "constructor"]);
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
});

test("a suggestion is taken where it conforms and passed over where not", () => {
  expect(generate({ type: "string", maxLength: 5 }, "s", ["too long by far", "Anna"])).toBe("Anna");
  expect(generate({ type: "integer", minimum: 40 }, "s", [34])).toBeGreaterThanOrEqual(40);
});

test.each<[string, Schema]>([
  ["nothing", false],
  ["a required property that is not allowed", { allOf: [{ additionalProperties: false }, { required: ["b"] }] }],
  [
    "a required property that fits no pattern of another part",
    {
      allOf: [
        { type: "object", patternProperties: { "^x": {} }, additionalProperties: false },
        { properties: { b: { type: "string" } }, required: ["b"] },
      ],
    },
  ],
  ["contradicting types", { allOf: [{ type: "string" }, { type: "integer" }] }],
  ["contradicting limits", { type: "integer", minimum: 4, maximum: 3 }],
  [
    "no end",
    { $ref: "#/$defs/a", $defs: { a: { type: "object", required: ["a"], properties: { a: { $ref: "#/$defs/a" } } } } },
  ],
  ["a circle of references", { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } }],
  ["a reference to nowhere", { $ref: "#/$defs/missing" }],
  ["an absurd number of items", { type: "array", minItems: 1e9 }],
  ["an absurdly long string", { type: "string", minLength: 1e9 }],
  [
    "a bush without end",
    { $ref: "#/$defs/a", $defs: { a: { type: "array", minItems: 9, maxItems: 9, items: { $ref: "#/$defs/a" } } } },
  ],
  ["a thousand different bits", { type: "array", items: { enum: [0, 1] }, minItems: 1000, uniqueItems: true }],
])("%s is refused, and soon", (_name, schema) => {
  const startedAt = performance.now();
  expect(() => generate(schema)).toThrow(SchemaError);
  expect(performance.now() - startedAt).toBeLessThan(2000);
});
