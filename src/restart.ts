// When to start again what died: the restart policy as a pure function. Used for the children of `up`, for the broker,
// and for the model server of an actor.

export interface RestartState {
  /** Deaths in a row, none of them after a stable time. */
  readonly failures: number;
  /** When it was started last, on the monotonic clock. */
  readonly startedMs: number;
}

/** The first restart is quick, because most deaths are single; a process that cannot live costs little after a minute. */
const FIRST_MS = 200;
export const RESTART_MS_MAX = 30_000;
/** Alive for this long, a process counts as healthy and its past is forgotten. */
export const STABLE_MS = 60_000;

export const firstStart = (nowMs: number): RestartState => ({ failures: 0, startedMs: nowMs });

/** The state after a death at `nowMs`; `startedMs` is to be set by `started` when it runs again. */
export function died(state: RestartState, nowMs: number): RestartState {
  const stable = nowMs - state.startedMs >= STABLE_MS;
  return { failures: stable ? 1 : state.failures + 1, startedMs: state.startedMs };
}

export const started = (state: RestartState, nowMs: number): RestartState => ({ ...state, startedMs: nowMs });

/**
 * Milliseconds to wait before the next start: doubled with each death in a row, at most RESTART_MS_MAX, of which the
 * upper half is drawn (`random` in [0, 1)), so that the actors of one machine do not come back in step.
 */
export function restartDelayMs(state: RestartState, random: number): number {
  if (state.failures === 0) return 0;
  const fullMs = Math.min(FIRST_MS * 2 ** (state.failures - 1), RESTART_MS_MAX);
  return Math.round(fullMs / 2 + (fullMs / 2) * random);
}
