import { expect, test } from "bun:test";
import { preferredWaitS, queriedWaitS } from "./prefer.ts";

test.each([
  [null, null],
  ["", null],
  ["wait=10", 10],
  ["respond-async, wait=10", 10],
  ["Wait = 5", 5],
  ['wait="7"', 7],
  ["wait=3; foo=bar", 3],
  ["wait=0", 0],
  ["wait=600", 60],
  ["wait=1, wait=9", 1],
  ["wait", null],
  ["wait=abc", null],
  ["wait=-1", null],
  ["wait=1.5", null],
  ["return=minimal", null],
  ['note="a, wait=9", wait=2', 2],
  ['note="a \\", wait=9"', null],
  ["await=9", null],
])("Prefer: %p waits %p s", (header, seconds) => {
  expect(preferredWaitS(header)).toBe(seconds);
});

test("the query is refused where the header would be ignored", () => {
  expect(queriedWaitS(new URLSearchParams("wait=60"))).toBe(60);
  expect(queriedWaitS(new URLSearchParams("other=1"))).toBeNull();
  for (const value of ["61", "-1", "1e1", "0x1", "", "10s", "1.5"]) {
    expect(() => queriedWaitS(new URLSearchParams({ wait: value }))).toThrow();
  }
});
