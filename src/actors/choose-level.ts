// Which priority an actor looks at next. Pure. Strict in the short run (high before normal before low), fair in the
// long run: a level with waiting work is never left unlooked at for longer than its limit.
import { type Level, levels } from "../bus/subjects.ts";

/** How long a level with work may be passed over, in milliseconds; Infinity: for ever (it is never passed over). */
export const AGE_MS_MAX: Readonly<Record<Level, number>> = {
  high: Number.POSITIVE_INFINITY,
  normal: 10_000,
  low: 30_000,
};

export interface LevelState {
  readonly waiting: boolean;
  /** When the level was last served, or last had nothing waiting; on the clock of `nowMs`. */
  readonly lookedAtMs: number;
}

/**
 * The level to pull from, null when none has work. A level over its age limit goes first (the one furthest over);
 * otherwise the highest.
 */
export function chooseLevel(
  states: Readonly<Record<Level, LevelState>>,
  nowMs: number,
  ageMsMax: Readonly<Record<Level, number>> = AGE_MS_MAX,
): Level | null {
  let chosen: Level | null = null;
  let furthestOver = 0;
  for (const level of levels) {
    if (!states[level].waiting) continue;
    chosen ??= level;
    const over = nowMs - states[level].lookedAtMs - ageMsMax[level];
    if (over > furthestOver) {
      furthestOver = over;
      chosen = level;
    }
  }
  return chosen;
}
