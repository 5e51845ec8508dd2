import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Level, levels } from "../bus/subjects.ts";
import { AGE_MS_MAX, chooseLevel, type LevelState, PASSED_OVER_MAX } from "./choose-level.ts";

type States = Record<Level, LevelState>;
const state = fc.record({
  waiting: fc.boolean(),
  lookedAtMs: fc.nat({ max: 100_000 }),
  passedOver: fc.nat({ max: 20 }),
});
const states: fc.Arbitrary<States> = fc.record({ high: state, normal: state, low: state });
const nowMs = fc.integer({ min: 100_000, max: 200_000 });
const overMs = (level: Level, all: States, now: number): number => now - all[level].lookedAtMs - AGE_MS_MAX[level];
const isDue = (level: Level, all: States, now: number): boolean =>
  overMs(level, all, now) > 0 && all[level].passedOver >= PASSED_OVER_MAX[level];

/** Each round takes one job, after `ms`; the lower levels wait all the time, high as it is told. */
function simulate(rounds: readonly { readonly ms: number; readonly high: boolean }[]) {
  let now = 0;
  const lookedAtMs: Record<Level, number> = { high: 0, normal: 0, low: 0 };
  const passedOver: Record<Level, number> = { high: 0, normal: 0, low: 0 };
  return rounds.map(({ ms, high }) => {
    now += ms;
    const current = {} as States;
    for (const level of levels) {
      const waiting = level !== "high" || high;
      if (!waiting) {
        lookedAtMs[level] = now;
        passedOver[level] = 0;
      }
      current[level] = { waiting, lookedAtMs: lookedAtMs[level], passedOver: passedOver[level] };
    }
    const chosen = chooseLevel(current, now);
    for (const level of levels) passedOver[level] = level === chosen ? 0 : passedOver[level] + 1;
    if (chosen) lookedAtMs[chosen] = now;
    return { chosen, current, now };
  });
}

describe("chooseLevel", () => {
  test("chooses a level that has work, and none where there is none", () => {
    fc.assert(
      fc.property(states, nowMs, (all, now) => {
        const chosen = chooseLevel(all, now);
        if (chosen === null) expect(levels.some((level) => all[level].waiting)).toBe(false);
        else expect(all[chosen].waiting).toBe(true);
      }),
    );
  });

  test("the one furthest over its limits, else the highest", () => {
    fc.assert(
      fc.property(states, nowMs, (all, now) => {
        const waiting = levels.filter((level) => all[level].waiting);
        const due = waiting.filter((level) => isDue(level, all, now));
        const chosen = chooseLevel(all, now);
        if (due.length === 0) return expect(chosen).toBe(waiting[0] ?? null);
        const furthest = Math.max(...due.map((level) => overMs(level, all, now)));
        expect(chosen && due.includes(chosen) && overMs(chosen, all, now)).toBe(furthest);
      }),
    );
  });

  test("whatever comes in above it, a level that waits is chosen soon after both its limits", () => {
    const round = (msMax: number) => fc.record({ ms: fc.integer({ min: 1, max: msMax }), high: fc.boolean() });
    for (const msMax of [500, 60_000]) {
      fc.assert(
        fc.property(fc.array(round(msMax), { minLength: 200, maxLength: 400 }), (rounds) => {
          for (const { chosen, current, now } of simulate(rounds)) {
            for (const level of ["normal", "low"] as const) {
              if (level === chosen || !isDue(level, current, now)) continue;
              // Two levels have limits: one waits for the other at most one choice, and each may have been just short.
              expect(
                Math.min(overMs(level, current, now), (current[level].passedOver - PASSED_OVER_MAX[level]) * msMax),
              ).toBeLessThanOrEqual(2 * msMax);
            }
          }
        }),
        { numRuns: 30 },
      );
    }
  });

  test("jobs that take longer than any limit do not turn the order around", () => {
    const chosen = simulate(Array.from({ length: 1_000 }, () => ({ ms: 60_000, high: true }))).map(
      (each) => each.chosen,
    );
    const count = (level: Level): number => chosen.filter((each) => each === level).length;
    expect(count("high")).toBeGreaterThan(700);
    expect(count("normal")).toBeGreaterThan(count("low"));
    expect(count("low")).toBeGreaterThan(30);
  });

  test("short jobs: nine seconds of high are not interrupted, thirty are, by either level", () => {
    const rounds = (count: number) => Array.from({ length: count }, () => ({ ms: 10, high: true }));
    const levelsOf = (count: number) => new Set(simulate(rounds(count)).map((each) => each.chosen));
    expect(levelsOf(900)).toEqual(new Set(["high"]));
    expect(levelsOf(3_100)).toEqual(new Set(["high", "normal", "low"]));
  });
});
