import { expect, test } from "bun:test";
import fc from "fast-check";
import { derivedTaskId, isTaskId, partitionOf, randomTaskId, randomToken } from "./ids.ts";

const keyId = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/);

test("ids of both kinds are task ids, of 26 characters", () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 48 - 1 }), keyId, fc.string({ unit: "grapheme" }), (nowMs, key, requestId) => {
      for (const id of [randomTaskId(nowMs), derivedTaskId(key, requestId)]) {
        expect(id).toHaveLength(26);
        expect(isTaskId(id)).toBe(true);
      }
    }),
  );
});

test("random ids sort by their time and are never the same", () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 48 - 2 }), (nowMs) => {
      expect(randomTaskId(nowMs) < randomTaskId(nowMs + 1)).toBe(true);
    }),
  );
  expect(new Set(Array.from({ length: 10_000 }, () => randomTaskId(1_800_000_000_000))).size).toBe(10_000);
  expect(new Set(Array.from({ length: 10_000 }, randomToken)).size).toBe(10_000);
});

test("a derived id is the same for the same request alone", () => {
  const request = fc.tuple(keyId, fc.string({ unit: "grapheme" }));
  fc.assert(
    fc.property(request, request, (a, b) => {
      expect(derivedTaskId(...a)).toBe(derivedTaskId(...a));
      expect(derivedTaskId(...a) === derivedTaskId(...b)).toBe(a[0] === b[0] && a[1] === b[1]);
    }),
  );
  expect(derivedTaskId("ab", "c")).not.toBe(derivedTaskId("a", "bc"));
});

// Stored tasks are found by these: another value means that they are lost.
test("derivation and partitions are what they have always been", () => {
  expect(derivedTaskId("dev", "order-1")).toBe("01vrzkjjywmv9qv32bm29kt849");
  const id = "01arz3ndektsv4rrffq69g5fav";
  expect([1, 2, 3, 8, 64].map((count) => partitionOf(id, count))).toEqual([0, 0, 0, 0, 32]);
});

test("every partition is in range, and each gets its share", () => {
  fc.assert(
    fc.property(keyId, fc.string(), fc.integer({ min: 1, max: 64 }), (key, requestId, partitions) => {
      const partition = partitionOf(derivedTaskId(key, requestId), partitions);
      expect(Number.isInteger(partition) && partition >= 0 && partition < partitions).toBe(true);
    }),
  );
  for (const partitions of [2, 3, 8, 64]) {
    const makers = [
      (i: number) => derivedTaskId("k", `order-${i}`),
      (i: number) => randomTaskId(1_800_000_000_000 + i),
    ];
    for (const make of makers) {
      const counts = new Array<number>(partitions).fill(0);
      const tasks = 1_000 * partitions;
      for (let i = 0; i < tasks; i++) {
        const partition = partitionOf(make(i), partitions);
        counts[partition] = (counts[partition] ?? 0) + 1;
      }
      // Six standard deviations around 1,000: by chance once in many millions of runs.
      expect(Math.min(...counts)).toBeGreaterThan(810);
      expect(Math.max(...counts)).toBeLessThan(1_190);
    }
  }
});

test.each([
  ["", "nothing"],
  ["01arz3ndektsv4rrffq69g5fa", "25 characters"],
  ["01arz3ndektsv4rrffq69g5favv", "27 characters"],
  ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "upper case"],
  ["81arz3ndektsv4rrffq69g5fav", "more than 128 bits"],
  ["01arz3ndektsv4rrffq69g5fal", "a letter that is not in the alphabet"],
  ["01arz3ndektsv4rrffq69g5f.*", "a wildcard"],
  ["01arz3ndektsv4rrffq69g5fav\n", "a line break"],
])("%p is no task id: %s", (text) => {
  expect(isTaskId(text)).toBe(false);
});
