import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Level, levels } from "../bus/subjects.ts";
import { AGE_MS_MAX, chooseLevel, type LevelState } from "./choose-level.ts";

type States = Record<Level, LevelState>;
const state = fc.record({ waiting: fc.boolean(), lookedAtMs: fc.nat({ max: 100_000 }) });
const states: fc.Arbitrary<States> = fc.record({ high: state, normal: state, low: state });
const nowMs = fc.integer({ min: 100_000, max: 200_000 });
const overMs = (level: Level, all: States, now: number): number => now - all[level].lookedAtMs - AGE_MS_MAX[level];

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

  test("the one furthest over its age, else the highest", () => {
    fc.assert(
      fc.property(states, nowMs, (all, now) => {
        const waiting = levels.filter((level) => all[level].waiting);
        const overdue = waiting.filter((level) => overMs(level, all, now) > 0);
        const chosen = chooseLevel(all, now);
        if (overdue.length === 0) return expect(chosen).toBe(waiting[0] ?? null);
        const furthest = Math.max(...overdue.map((level) => overMs(level, all, now)));
        expect(chosen && overMs(chosen, all, now)).toBe(furthest);
      }),
    );
  });

  test("whatever comes in above it, a level that waits is chosen once its limit has passed and those before it were", () => {
    const stepMs = 500;
    const rounds = fc.array(
      fc.record({
        ms: fc.integer({ min: 1, max: stepMs }),
        waits: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
      }),
      { minLength: 200, maxLength: 400 },
    );
    fc.assert(
      fc.property(rounds, (all) => {
        let now = 0;
        const lookedAtMs: Record<Level, number> = { high: 0, normal: 0, low: 0 };
        for (const { ms, waits } of all) {
          now += ms;
          const current = {} as States;
          levels.forEach((level, i) => {
            // The lower levels wait all the time: the hardest case for them.
            const waiting = level === "high" ? waits[i] === true : true;
            if (!waiting) lookedAtMs[level] = now;
            current[level] = { waiting, lookedAtMs: lookedAtMs[level] };
          });
          const chosen = chooseLevel(current, now);
          for (const level of ["normal", "low"] as const) {
            // Two levels have limits: one waits for the other at most one choice.
            if (level !== chosen) expect(overMs(level, current, now)).toBeLessThanOrEqual(2 * stepMs);
          }
          if (chosen) lookedAtMs[chosen] = now;
        }
      }),
      { numRuns: 50 },
    );
  });

  test("high alone is never kept waiting but by what is over its age", () => {
    const fresh = { waiting: true, lookedAtMs: 99_000 };
    expect(chooseLevel({ high: fresh, normal: fresh, low: fresh }, 100_000)).toBe("high");
    expect(chooseLevel({ high: fresh, normal: fresh, low: fresh }, 99_000 + 10_000)).toBe("high");
    expect(chooseLevel({ high: fresh, normal: fresh, low: fresh }, 99_000 + 10_001)).toBe("normal");
    expect(chooseLevel({ high: fresh, normal: { waiting: true, lookedAtMs: 129_000 }, low: fresh }, 129_001)).toBe(
      "low",
    );
  });
});
