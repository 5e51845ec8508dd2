import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalJson, requestHash } from "./canonical.ts";
import type { TaskRequest } from "./tasks.ts";

/** The same value with the keys of every object in another order. */
function reversed(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(reversed);
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, member]) => [key, reversed(member)]),
  );
}
const json = fc.jsonValue({ stringUnit: "binary", maxDepth: 4 }).map((value) => JSON.parse(JSON.stringify(value)));

describe("canonicalJson", () => {
  test("the order of keys does not matter", () => {
    fc.assert(fc.property(json, (value) => expect(canonicalJson(reversed(value))).toBe(canonicalJson(value))));
  });

  test("is JSON of the same value, and of no other", () => {
    fc.assert(
      fc.property(json, json, (a, b) => {
        expect(JSON.parse(canonicalJson(a))).toEqual(a);
        expect(canonicalJson(a) === canonicalJson(b)).toBe(Bun.deepEquals(a, b, true));
      }),
    );
  });

  test("members that are undefined are left out, as JSON does", () => {
    expect(canonicalJson({ b: undefined, a: [undefined] })).toBe('{"a":[null]}');
    expect(canonicalJson(undefined)).toBe("null");
  });

  test("keys go by code unit, as RFC 8785 says, and a key of every object is like any other", () => {
    const text = '{"\u{1F600}":1,"\ufb33":2,"é":3,"a":4,"B":5,"10":6,"9":7,"__proto__":8}';
    const keys = [...canonicalJson(JSON.parse(text)).matchAll(/"([^"]+)":/g)].map((match) => match[1]);
    expect(keys).toEqual(["10", "9", "B", "__proto__", "a", "é", "\u{1F600}", "\ufb33"]);
  });
});

describe("requestHash", () => {
  const request: TaskRequest = { model: "echo", input: { text: "hi", n: [1, { a: 1, b: 2 }] } };
  const hash = requestHash(request);

  test("does not depend on the order of keys, on the id it is asked for, or on a default that is spelled out", () => {
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(requestHash(reversed(request) as TaskRequest)).toBe(hash);
    expect(requestHash({ ...request, client_request_id: "order-1" })).toBe(hash);
    expect(requestHash({ ...request, priority: "normal", metadata: {} })).toBe(hash);
  });

  test.each([
    ["model", { model: "echo2" }],
    ["input", { input: { text: "hi", n: [1, { a: 1, b: 3 }] } }],
    ["order of an array", { input: { text: "hi", n: [{ a: 1, b: 2 }, 1] } }],
    ["null for a missing member", { input: { ...(request.input as object), more: null } }],
    ["priority", { priority: "high" as const }],
    ["max_attempts", { max_attempts: 1 }],
    ["timeout_ms", { timeout_ms: 1_000 }],
    ["metadata", { metadata: { a: "b" } }],
  ])("another %s is another request", (_, change) => {
    expect(requestHash({ ...request, ...change })).not.toBe(hash);
  });
});
