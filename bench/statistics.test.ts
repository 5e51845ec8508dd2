import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { countLeading, median, quantiles } from "./statistics.ts";

describe("quantiles", () => {
  test("are nearest-rank", () => {
    const samples = Array.from({ length: 100 }, (_, i) => 100 - i);
    expect(quantiles(samples)).toEqual({ p50: 50, p95: 95, p99: 99, max: 100 });
  });

  test("of one sample are that sample, of none NaN", () => {
    expect(quantiles([7.126])).toEqual({ p50: 7.13, p95: 7.13, p99: 7.13, max: 7.13 });
    expect(quantiles([]).p50).toBeNaN();
  });

  test("leave as many samples at or below them as they say", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 1 }), (samples) => {
        const { p50, p95, p99, max } = quantiles(samples);
        const atOrBelow = (value: number): number =>
          samples.filter((sample) => sample <= value).length / samples.length;
        const below = (value: number): number => samples.filter((sample) => sample < value).length / samples.length;
        for (const [share, value] of [[0.5, p50] as const, [0.95, p95] as const, [0.99, p99] as const]) {
          expect(atOrBelow(value)).toBeGreaterThanOrEqual(share);
          expect(below(value)).toBeLessThan(share);
        }
        expect(max).toBe(Math.max(...samples));
      }),
    );
  });
});

test("the median is the middle, the mean of two middles, and passes over what is not finite", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([Number.NaN, 5])).toBe(5);
  expect(median([])).toBeNaN();
});

describe("countLeading", () => {
  test("finds every boundary in about log2 questions", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(5_000), fc.nat(5_000), async (a, b) => {
        const [ended, length] = a < b ? [a, b] : [b, a];
        let questions = 0;
        const found = await countLeading(length, async (index) => {
          questions++;
          return index < ended;
        });
        expect(found).toBe(ended);
        expect(questions).toBeLessThanOrEqual(Math.ceil(Math.log2(length + 1)));
      }),
    );
  });
});
