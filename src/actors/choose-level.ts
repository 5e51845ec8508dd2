// Which priority an actor looks at next. Pure. Strict in the short run (high before normal before low), fair in the
// long run: a level with waiting work is passed over for no longer than its limit, in time and in jobs. Both, because
// time alone would turn the order around where one job takes longer than the limit: each lower level would be over its
// age whenever a slot becomes free, and high would never be chosen.
import { type Level, levels } from "../bus/subjects.ts";

/** How long a level with work may be passed over, in milliseconds; Infinity: for ever (it is never passed over). */
export const AGE_MS_MAX: Readonly<Record<Level, number>> = {
  high: Number.POSITIVE_INFINITY,
  normal: 10_000,
  low: 30_000,
};

/** Jobs of other levels that go before one that is over its age. */
export const PASSED_OVER_MAX: Readonly<Record<Level, number>> = { high: Number.POSITIVE_INFINITY, normal: 4, low: 16 };

export interface LevelState {
  readonly waiting: boolean;
  /** When the level was last served, or last had nothing waiting; on the clock of `nowMs`. */
  readonly lookedAtMs: number;
  /** Jobs asked for at other levels since then. */
  readonly passedOver: number;
}

/**
 * The level to pull from, null when none has work. A level over both limits goes first (the one furthest over in time);
 * otherwise the highest.
 */
export function chooseLevel(states: Readonly<Record<Level, LevelState>>, nowMs: number): Level | null {
  let chosen: Level | null = null;
  let furthestOver = 0;
  for (const level of levels) {
    if (!states[level].waiting) continue;
    chosen ??= level;
    const over = nowMs - states[level].lookedAtMs - AGE_MS_MAX[level];
    if (over > furthestOver && states[level].passedOver >= PASSED_OVER_MAX[level]) {
      furthestOver = over;
      chosen = level;
    }
  }
  return chosen;
}
