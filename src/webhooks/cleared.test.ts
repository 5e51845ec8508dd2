import { expect, test } from "bun:test";
import fc from "fast-check";
import { createCleared } from "./cleared.ts";

test("a range grows with what is heard, and ends before what is to be told", () => {
  const cleared = createCleared();
  cleared.heard(0, 7, false);
  cleared.heard(0, 9, false); // 8 was removed
  cleared.heard(2, 1, false);
  expect(cleared.take()).toEqual([
    { partition: 0, from: 7, to: 9 },
    { partition: 2, from: 1, to: 1 },
  ]);
  expect(cleared.take()).toEqual([]);
  cleared.heard(0, 10, true);
  expect(cleared.take()).toEqual([]);
  cleared.heard(0, 11, false);
  expect(cleared.take()).toEqual([{ partition: 0, from: 11, to: 11 }]);
  cleared.heard(0, 3, false); // the log has lost its end
  expect(cleared.take()).toEqual([{ partition: 0, from: 3, to: 3 }]);
});

test("whatever is heard, no range holds an end that is to be told", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ step: fc.integer({ min: 1, max: 3 }), told: fc.boolean(), take: fc.boolean() })),
      (heard) => {
        const cleared = createCleared();
        const told: number[] = [];
        const ranges: { from: number; to: number }[] = [];
        let sequence = 0;
        for (const one of heard) {
          sequence += one.step;
          cleared.heard(1, sequence, one.told);
          if (one.told) told.push(sequence);
          if (one.take) ranges.push(...cleared.take());
        }
        ranges.push(...cleared.take());
        for (const { from, to } of ranges) expect(told.filter((at) => at >= from && at <= to)).toEqual([]);
      },
    ),
  );
});
