import { expect, test } from "bun:test";
import fc from "fast-check";
import { chooseRange } from "./range.ts";

const etag = '"abc"';
const part = (start: number, end: number): object => ({ kind: "part", range: { start, end } });
const whole = { kind: "whole" };
const unsatisfiable = { kind: "unsatisfiable" };

test.each([
  [null, whole],
  ["bytes=0-0", part(0, 0)],
  ["bytes=0-", part(0, 99)],
  ["bytes=10-19", part(10, 19)],
  ["bytes=10-1000", part(10, 99)],
  ["bytes=-10", part(90, 99)],
  ["bytes=-1000", part(0, 99)],
  ["bytes=100-", unsatisfiable],
  ["bytes=-0", unsatisfiable],
  ["bytes=20-10", whole],
  ["bytes=0-1,5-6", whole],
  ["bytes=-", whole],
  ["bytes=a-b", whole],
  ["items=0-1", whole],
  [`bytes=${"9".repeat(40)}-`, whole],
])("Range: %p", (header, expected) => {
  expect(chooseRange(header, null, etag, 100)).toEqual(expected as never);
});

test("If-Range must be this very content", () => {
  expect(chooseRange("bytes=0-0", etag, etag, 100)).toEqual({ kind: "part", range: { start: 0, end: 0 } });
  expect(chooseRange("bytes=0-0", '"other"', etag, 100)).toEqual({ kind: "whole" });
  expect(chooseRange("bytes=0-0", `W/${etag}`, etag, 100)).toEqual({ kind: "whole" });
});

test("an empty object has no part", () => {
  expect(chooseRange("bytes=0-", null, etag, 0)).toEqual({ kind: "unsatisfiable" });
  expect(chooseRange("bytes=-5", null, etag, 0)).toEqual({ kind: "unsatisfiable" });
});

test("a part always lies within the object", () => {
  const numbers = fc.option(fc.nat({ max: 300 }), { nil: "" });
  fc.assert(
    fc.property(numbers, numbers, fc.nat({ max: 200 }), (first, last, sizeBytes) => {
      const choice = chooseRange(`bytes=${first}-${last}`, null, etag, sizeBytes);
      if (choice.kind !== "part") return;
      const { start, end } = choice.range;
      expect(start).toBeGreaterThanOrEqual(0);
      expect(end).toBeGreaterThanOrEqual(start);
      expect(end).toBeLessThan(sizeBytes);
    }),
  );
});
