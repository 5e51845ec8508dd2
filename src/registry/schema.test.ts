import { describe, expect, test } from "bun:test";
import { Type as t } from "@sinclair/typebox";
import fc from "fast-check";
import { closeSchema } from "./close.ts";
import { file } from "./file.ts";
import { compileSchema } from "./schema.ts";

const person = t.Object({ name: t.String({ maxLength: 5 }), age: t.Optional(t.Integer({ minimum: 0 })) });

describe("problems", () => {
  const cases: readonly [string, object, unknown, string, string][] = [
    ["missing field", person, {}, "/name", "is required"],
    ["unknown field", person, { name: "a", nam: 1 }, "/nam", "is not a known field"],
    ["wrong type", person, { name: 1 }, "/name", "must be a string"],
    ["fraction", person, { name: "a", age: 1.5 }, "/age", "must be a whole number"],
    ["not a number", person, { name: "a", age: Number.NaN }, "/age", "must be a whole number"],
    ["below", person, { name: "a", age: -1 }, "/age", "must be at least 0"],
    ["too long", person, { name: "secret value" }, "/name", "must have at most 5 characters"],
    ["not an object", person, [], "", "must be an object"],
    ["escaped pointer", t.Object({ "a/b~": t.Null() }), { "a/b~": 1 }, "/a~1b~0", "must be null"],
    ["enum", { enum: ["a", 1] }, "b", "", 'must be one of "a", 1'],
    ["literals", t.Union([t.Literal("a"), t.Literal("b")]), "c", "", 'must be "a", or "b"'],
    ["types", t.Union([t.String(), t.Null()]), 1, "", "must be a string, or null"],
    ["no form fits", t.Union([person, t.String()]), 1, "", "must be an object with name, or a string"],
    ["one form fits", t.Union([person, t.String()]), { name: "a", age: "b" }, "/age", "must be a whole number"],
    ["file", t.Object({ image: file("image/png") }), { image: "x" }, "/image", "must be a file of type image/png"],
  ];
  for (const [name, schema, value, path, message] of cases) {
    test(name, () => {
      const problems = compileSchema(schema)(value);
      expect(problems).toHaveLength(1);
      expect(problems[0]?.path).toBe(path);
      expect(problems[0]?.message).toStartWith(message);
    });
  }

  test("of tagged forms the one with the value's tag is corrected", () => {
    const circle = t.Object({ kind: t.Literal("circle"), radius: t.Number() });
    const square = t.Object({ kind: t.Literal("square"), side: t.Number() });
    const check = compileSchema(t.Object({ shape: t.Union([circle, square]) }));
    expect(check({ shape: { kind: "square", side: "2" } })).toEqual([
      { path: "/shape/side", message: "must be a number" },
    ]);
  });

  test("all of them are reported, at most twenty", () => {
    expect(compileSchema(person)({ name: 1, age: "x", other: 1 })).toHaveLength(3);
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`field${i}`, 1]));
    expect(compileSchema(t.Object({}))(many)).toHaveLength(20);
  });

  test("a large value is reported by its first problem only", () => {
    const check = compileSchema(t.Array(t.String()));
    expect(check(Array.from({ length: 100_000 }, () => 1))).toEqual([{ path: "/0", message: "must be a string" }]);
  });

  test("never repeat what was sent", () => {
    const check = compileSchema(
      t.Object({ a: t.Integer(), b: t.Union([t.Literal("x"), person]), c: t.String({ format: "date" }) }),
    );
    expect(JSON.stringify(check({ a: "canary", b: "canary", c: "canary" }))).not.toContain("canary");
  });

  test("a field name of a client is cut", () => {
    const [problem] = compileSchema(person)({ name: "a", ["x".repeat(3_000)]: 1 });
    expect(problem?.path.length).toBe(256);
  });
});

describe("values from a client", () => {
  const open = compileSchema(t.Object({ any: t.Unknown() }));
  test("no own __proto__, wherever it stands", () => {
    expect(open(JSON.parse('{"any":[{"__proto__":{"admin":true}}]}'))).toEqual([
      { path: "/any/0/__proto__", message: "is not a known field" },
    ]);
  });
  test("no NUL, in values and in names", () => {
    expect(open({ any: ["a\0b"] })[0]).toEqual({ path: "/any/0", message: "must not contain a NUL character" });
    expect(open({ any: { "a\0b": 1 } })[0]?.path).toBe("/any");
  });
  test("no nesting that would exhaust the stack", () => {
    const deep = JSON.parse(`${'{"any":'.repeat(5_000)}1${"}".repeat(5_000)}`);
    expect(open(deep)[0]?.message).toBe("must not be nested deeper than 64 levels");
  });
  test("inherited names are no fields", () => {
    const check = compileSchema(t.Object({ toString: t.String() }));
    expect(check({})).toEqual([{ path: "/toString", message: "is required" }]);
  });
  test("whatever JSON comes, a check answers and never throws", () => {
    const recursive = t.Recursive((Node) => t.Object({ next: t.Optional(Node), value: t.Union([person, t.Number()]) }));
    const check = compileSchema(recursive);
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 10 }), (value) => Array.isArray(check(value))));
  });
});

describe("formats", () => {
  test("a given one is applied, its name told in plain words", () => {
    const check = compileSchema(t.String({ format: "public-url" }), {
      formats: { "public-url": (text) => text === "https://example.com/" },
    });
    expect(check("https://example.com/")).toEqual([]);
    expect(check("file:///etc/passwd")).toEqual([
      { path: "", message: "must be an http or https URL with a public host" },
    ]);
  });
  test("an unknown one checks nothing", () => {
    expect(compileSchema(t.String({ format: "public-url" }))("x")).toEqual([]);
  });
  test("days must exist", () => {
    const check = compileSchema(t.String({ format: "date-time" }));
    expect(check("2026-02-28T10:00:00Z")).toEqual([]);
    expect(check("2026-02-31T10:00:00Z")).toHaveLength(1);
  });
});

describe("closing", () => {
  test("reaches objects in objects, lists and choices", () => {
    const check = compileSchema(t.Object({ list: t.Array(t.Object({ one: t.Union([person, t.Null()]) })) }));
    expect(check({ list: [{ one: { name: "a" } }] })).toEqual([]);
    expect(check({ list: [{ one: { name: "a", x: 1 } }] })).toHaveLength(1);
    expect(check({ list: [{ one: null, x: 1 }] })).toHaveLength(1);
  });
  test("an intersection takes the fields of all its parts and no others", () => {
    const check = compileSchema(t.Intersect([person, t.Object({ city: t.String() })]));
    expect(check({ name: "a", city: "b" })).toEqual([]);
    expect(check({ name: "a", city: "b", x: 1 })).toEqual([{ path: "/x", message: "is not a known field" }]);
  });
  test("fields beside a choice of fields", () => {
    const check = compileSchema({
      type: "object",
      properties: { a: {} },
      anyOf: [{ properties: { b: {} }, required: ["b"] }, {}],
    });
    expect(check({ a: 1, b: 2 })).toEqual([]);
    expect(check({ a: 1, c: 2 })).toHaveLength(1);
  });
  test("what a schema says itself stays; records and `not` stay open", () => {
    expect(compileSchema(t.Object({}, { additionalProperties: true }))({ x: 1 })).toEqual([]);
    expect(compileSchema(t.Record(t.String(), t.Integer()))({ x: 1 })).toEqual([]);
    expect(compileSchema({ not: { properties: { x: { const: 1 } }, required: ["x"] } })({ x: 1, y: 2 })).toHaveLength(
      1,
    );
  });
  test("twice is once", () => {
    for (const schema of [person, t.Intersect([person, t.Object({})]), t.Array(person)]) {
      expect(closeSchema(closeSchema(schema))).toEqual(closeSchema(schema));
    }
  });
});

describe("what is no schema is refused", () => {
  const wrong = [{ type: "strin" }, { maxLength: "x" }, { properties: { a: 3 } }, { pattern: "(" }, { $ref: "#/nope" }];
  for (const schema of [...wrong, t.Date()]) {
    test(JSON.stringify(schema), () => {
      expect(() => compileSchema(schema)).toThrow(expect.objectContaining({ code: "invalid_runner" }));
    });
  }
});
