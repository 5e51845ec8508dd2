import { expect, test } from "bun:test";
import fc from "fast-check";
import { died, firstStart, RESTART_MS_MAX, restartDelayMs, STABLE_MS, started } from "./restart.ts";

const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const afterDeaths = (count: number, livedMs: number) => {
  let state = firstStart(0);
  let nowMs = 0;
  for (let i = 0; i < count; i++) {
    nowMs += livedMs;
    state = died(state, nowMs);
    state = started(state, nowMs);
  }
  return state;
};

test("nothing that has not died waits", () => {
  expect(restartDelayMs(firstStart(123), 0.5)).toBe(0);
});

test("the first restart comes within 100 to 200 ms", () => {
  fc.assert(
    fc.property(random, (r) => {
      const delayMs = restartDelayMs(afterDeaths(1, 10), r);
      return delayMs >= 100 && delayMs <= 200;
    }),
  );
});

test("delays stay within their bounds and never shrink as deaths add up", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10_000 }), random, (deaths, r) => {
      const delayMs = restartDelayMs(afterDeaths(deaths, 10), r);
      const nextMs = restartDelayMs(afterDeaths(deaths + 1, 10), r);
      return delayMs > 0 && delayMs <= nextMs && nextMs <= RESTART_MS_MAX;
    }),
  );
});

test("a stable minute forgets the past", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 1e9 }), (deaths, extraMs) => {
      const before = started(afterDeaths(deaths, 10), 1_000_000);
      return died(before, 1_000_000 + STABLE_MS + extraMs).failures === 1;
    }),
  );
  expect(died(started(afterDeaths(4, 10), 1_000_000), 1_000_000 + STABLE_MS - 1).failures).toBe(5);
});
