import { expect, test } from "bun:test";
import fc from "fast-check";
import { retryDelayMs } from "./backoff.ts";

const attempt = fc.integer({ min: 1, max: 10_000 });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const BASE_MS = 1_000;
const CAP_MS = 300_000;

test("a delay lies between half its ceiling and its ceiling", () => {
  fc.assert(
    fc.property(attempt, random, (n, r) => {
      const ceilingMs = Math.min(CAP_MS, BASE_MS * 2 ** (n - 1));
      const delayMs = retryDelayMs(n, r);
      expect(Number.isInteger(delayMs)).toBe(true);
      expect(delayMs).toBeGreaterThanOrEqual(ceilingMs / 2);
      expect(delayMs).toBeLessThanOrEqual(ceilingMs);
    }),
  );
});

test("later attempts never wait less by the same luck, and more luck never means less", () => {
  fc.assert(
    fc.property(attempt, random, random, (n, a, b) => {
      expect(retryDelayMs(n + 1, a)).toBeGreaterThanOrEqual(retryDelayMs(n, a));
      expect(retryDelayMs(n, Math.max(a, b))).toBeGreaterThanOrEqual(retryDelayMs(n, Math.min(a, b)));
    }),
  );
});

test("from half a second to five minutes", () => {
  expect([0, 1, 2, 3, 9, 10, 100].map((n) => retryDelayMs(n, 0))).toEqual([
    500, 500, 1_000, 2_000, 128_000, 150_000, 150_000,
  ]);
  expect(retryDelayMs(10_000, 0.999999999)).toBe(CAP_MS);
});
