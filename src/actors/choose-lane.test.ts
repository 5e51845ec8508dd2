import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Lane } from "../bus/subjects.ts";
import { aheadOfTurn, chooseLane, debtAfter } from "./choose-lane.ts";

/** What each lane got, where both have always enough. */
function serve(rooms: readonly number[]): Record<Lane, number> {
  const served = { a: 0, b: 0 };
  let debt = 0;
  for (const room of rooms) {
    const { lane, jobsMax } = chooseLane(debt, room);
    const jobs = Math.min(room, jobsMax);
    served[lane] += jobs;
    debt = debtAfter(debt, lane, jobs);
  }
  return served;
}

test("one slot: four of a, one of b, and again", () => {
  let debt = 0;
  const order = Array.from({ length: 10 }, () => {
    const { lane, jobsMax } = chooseLane(debt, 1);
    expect(jobsMax).toBe(1);
    debt = debtAfter(debt, lane, 1);
    return lane;
  });
  expect(order.join("")).toBe("aaaabaaaab");
});

test("whatever room there is, b gets a fifth, to within one round", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 200 }), (rooms) => {
      const { a, b } = serve(rooms);
      const roomMax = Math.max(...rooms);
      expect(Math.abs(a - 4 * b)).toBeLessThanOrEqual(roomMax + 4);
    }),
  );
});

test("while a is being asked, b gets a few jobs past its turn, and then waits until they are made good", () => {
  let debt = 0;
  let ahead = 0;
  for (let turn = 0; turn < 10; turn++) {
    const jobs = Math.min(3, aheadOfTurn(debt));
    debt = debtAfter(debt, "b", jobs);
    ahead += jobs;
  }
  expect(ahead).toBe(4);
  expect(aheadOfTurn(debt)).toBe(0);
  expect(chooseLane(debt, 1).lane).toBe("a");
  for (let job = 0; job < 4; job++) debt = debtAfter(debt, "a", 1);
  expect(aheadOfTurn(debt)).toBe(1);
});
