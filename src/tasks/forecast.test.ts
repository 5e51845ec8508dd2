import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Level } from "../bus/subjects.ts";
import { aheadInAll, aheadInQueue, type CountedQueue, countedQueues, etaMs, throughput } from "./forecast.ts";

const queue = (fields: Partial<CountedQueue> = {}, level: Level = "normal", partition = 0): CountedQueue => ({
  at: { partition, level, lane: "a", model: "m" },
  pending: 0,
  ackPending: 0,
  handedBack: 0,
  deliveredSequence: 0,
  ...fields,
});

describe("throughput", () => {
  test("is slots over the time of one, as long as nothing was counted", () => {
    expect(throughput({ ended: 0, windowMs: 0, slots: 4, serviceMs: 99 })).toBe(0.04);
    expect(throughput({ ended: 0, windowMs: 0, slots: 4, serviceMs: null })).toBeNull();
    expect(throughput({ ended: 5, windowMs: 100, slots: 0, serviceMs: 99 })).toBeNull();
  });

  test("is bounded by what was counted: a slot can have one task that began before, and one that has not ended", () => {
    expect(throughput({ ended: 0, windowMs: 1_000, slots: 4, serviceMs: 9 })).toBe(0.004);
    expect(throughput({ ended: 100, windowMs: 1_000, slots: 4, serviceMs: 999 })).toBe(0.096);
    const pace = fc.record({
      ended: fc.nat(10_000),
      windowMs: fc.integer({ min: 1, max: 60_000 }),
      slots: fc.integer({ min: 1, max: 64 }),
      serviceMs: fc.double({ min: 0, max: 100_000, noNaN: true }),
    });
    fc.assert(
      fc.property(pace, (given) => {
        const perMs = throughput(given) ?? Number.NaN;
        expect(perMs).toBeLessThanOrEqual((given.ended + given.slots) / given.windowMs + 1e-9);
        expect(perMs).toBeGreaterThanOrEqual((given.ended - given.slots) / given.windowMs - 1e-9);
      }),
    );
  });
});

describe("aheadInQueue", () => {
  const own = queue({ pending: 11, deliveredSequence: 9 });
  const extent = { ends: { first: 10, last: 20 }, logEnd: 20 };

  test("is exact where the queue is alone in its log", () => {
    expect([10, 11, 15, 20].map((sequence) => aheadInQueue(own, extent, sequence))).toEqual([0, 1, 5, 10]);
  });

  test("spreads the jobs evenly where others lie between", () => {
    const sparse = { ends: { first: 10, last: 110 }, logEnd: 500 };
    expect(aheadInQueue(own, sparse, 60)).toBe(5);
    // The last was looked up later than the jobs were counted.
    expect(aheadInQueue(own, { ends: { first: 10, last: 110 }, logEnd: 20 }, 15)).toBe(5);
  });

  test("adds what came since the count, and what was handed back; a job in hand has only those before it", () => {
    expect(aheadInQueue(own, extent, 25)).toBe(15);
    expect(aheadInQueue({ ...own, handedBack: 3 }, extent, 10)).toBe(3);
    expect(aheadInQueue({ ...own, handedBack: 3 }, extent, 9)).toBe(1);
    expect(aheadInQueue(own, { ends: null, logEnd: 20 }, 15)).toBe(11);
  });
});

test("handed back is what is in hand beyond the slots", () => {
  const queues = [queue({ ackPending: 9 }), queue({ ackPending: 3 }, "low")];
  expect(countedQueues(queues, 4).map(({ handedBack }) => handedBack)).toEqual([6, 2]);
  expect(countedQueues(queues, 12).map(({ handedBack }) => handedBack)).toEqual([0, 0]);
});

test("higher levels go first, lower ones do not count, other partitions take turns", () => {
  const own = queue({ pending: 50 });
  const others = [queue({ pending: 7 }, "high"), queue({ pending: 90 }, "low"), own];
  expect(aheadInAll(own, 10, others, 0, 2)).toBe(17);
  const partitions = [queue({ pending: 50 }, "normal", 1), queue({ pending: 3 }, "normal", 2)];
  expect(aheadInAll(own, 10, [...others, ...partitions], 0, 2)).toBe(17 + 11 + 3);
});

test("of the other lane a task waits for its proportion, and for no more than there is", () => {
  const inLane = (lane: "a" | "b", pending: number): CountedQueue => {
    const { at, ...counts } = queue({ pending });
    return { at: { ...at, lane }, ...counts };
  };
  const [a, b] = [inLane("a", 100), inLane("b", 500)];
  expect(aheadInAll(a, 80, [a, b], 0, 1)).toBe(100);
  expect(aheadInAll(b, 9, [a, b], 0, 1)).toBe(9 + 40);
  expect(aheadInAll(b, 400, [a, b], 0, 1)).toBe(500);
});

test("a task ends when those before it have begun, and its own time is over", () => {
  expect(etaMs(0, null, 100, true)).toBeNull();
  expect(etaMs(0, 0.01, 100, true)).toBe(100);
  expect(etaMs(0, 0.01, 100, false)).toBe(150);
  expect(etaMs(9, 0.01, null, false)).toBe(950);
});
