// How long a task waits for a model server that cannot be reached yet, or is full: the attempt ends and does not count,
// and the same attempt is begun again later. Pure: time and randomness come in as numbers. Called by actors.
import type { JobRecord, TaskError, Waiting } from "./records.ts";
import { startByOf } from "./times.ts";

const BASE_MS = 1_000;
/** A server that has come up is found so soon; a full one that asks for more is asked sooner. */
const CAP_MS = 30_000;
/** Less is no wait worth another try. */
const LEFT_MS_MIN = 50;

export interface WaitAsked {
  /** Null: this is the first try in a row that found no server. */
  readonly before: Waiting | null;
  /** When this try began, milliseconds since the epoch, as the next one. */
  readonly startedAtMs: number;
  readonly nowMs: number;
  /** MODEL_WAIT. */
  readonly waitMsMax: number;
  /** What the server asked for; 0: nothing. */
  readonly retryAfterMs: number;
  /** In [0, 1). */
  readonly random: number;
}

export interface ModelWaiting {
  readonly waiting: Waiting;
  readonly delayMs: number;
  /** Until the task has waited long enough; at least `delayMs`. */
  readonly leftMs: number;
}

/**
 * The wait before the next try; null where the task has waited long enough: for MODEL_WAIT in a row, or up to its own
 * `deadline`, or for as long as its request gives an attempt (`timeout_ms`). Exponential from 1 s to 30 s with "equal
 * jitter" (backoff.ts) on top of what the server asked for, which counts up to 30 s; the last try comes when the time is up.
 */
export function nextWait(
  job: Pick<JobRecord, "created" | "runAt" | "startBy" | "timeoutMs">,
  { before, startedAtMs, nowMs, waitMsMax, retryAfterMs, random }: WaitAsked,
): ModelWaiting | null {
  const { sinceMs, tries } = before ?? { sinceMs: startedAtMs, tries: 0 };
  const untilMs = Math.min(sinceMs + waitMsMax, sinceMs + (job.timeoutMs ?? Number.POSITIVE_INFINITY), startByOf(job));
  const leftMs = untilMs - nowMs;
  if (leftMs < LEFT_MS_MIN) return null;
  const half = Math.min(CAP_MS, BASE_MS * 2 ** tries) / 2;
  const delayMs = Math.round(Math.max(half, Math.min(CAP_MS, retryAfterMs)) + half * random);
  return { waiting: { sinceMs, tries: tries + 1 }, delayMs: Math.min(delayMs, leftMs), leftMs };
}

/** How a task ends that has waited in vain since `sinceMs`. */
export function waitedInVain(error: TaskError, sinceMs: number, nowMs: number): TaskError {
  const waitedS = Math.max(0, Math.round((nowMs - sinceMs) / 100) / 10);
  return {
    ...error,
    message: `${error.message.replace(/\.?$/, ".")} The task waited for ${waitedS} s.`,
    retryable: false,
  };
}
