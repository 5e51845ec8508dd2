// How long a task waits for a model server that cannot be reached yet, or is full: the attempt ends and does not count,
// and the same attempt is begun again later. Pure: time and randomness come in as numbers. Called by actors, and by the
// gateways' sweep of deadlines.
import type { EventRecord, JobRecord, RetryData, TaskError, Waiting } from "./records.ts";
import { startByOf } from "./times.ts";

const BASE_MS = 1_000;
/** A server that has come up is found so soon; a full one that asks for more is asked sooner. */
const CAP_MS = 30_000;
/** Less is no wait worth another try. */
const LEFT_MS_MIN = 50;

export interface WaitAsked {
  /** Null: this is the first try in a row that found no server. */
  readonly before: Waiting | null;
  readonly attempt: number;
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
 * The wait before the next try; null where the task has waited long enough: for MODEL_WAIT in a row, for as long as its
 * request gives an attempt (`timeout_ms`), or, in its first attempt, up to its latest start (`deadline`). Half of it is
 * chance, as in backoff.ts: exponential from 1 s to 30 s, and not less than the server asked for, of which up to 30 s
 * count. The last try comes when the time is up.
 */
export function nextWait(
  job: Pick<JobRecord, "created" | "runAt" | "startBy" | "timeoutMs">,
  { before, attempt, startedAtMs, nowMs, waitMsMax, retryAfterMs, random }: WaitAsked,
): ModelWaiting | null {
  const { sinceMs, tries } = before ?? { sinceMs: startedAtMs, tries: 0 };
  const startByMs = attempt === 1 ? startByOf(job) : Number.POSITIVE_INFINITY;
  const untilMs = Math.min(sinceMs + Math.min(waitMsMax, job.timeoutMs ?? waitMsMax), startByMs);
  const leftMs = untilMs - nowMs;
  if (leftMs < LEFT_MS_MIN) return null;
  const half = Math.min(CAP_MS, BASE_MS * 2 ** tries) / 2;
  const delayMs = Math.round(Math.max(half, Math.min(CAP_MS, retryAfterMs)) + half * random);
  return { waiting: { sinceMs, tries: tries + 1 }, delayMs: Math.min(delayMs, leftMs), leftMs };
}

/**
 * How a task ends whose latest start has passed while its first attempt waits; null where its newest event is another:
 * it has been started, by a model server too.
 */
export function overdueWait(
  { event, attempt, uncounted, waiting, data }: EventRecord,
  nowMs: number,
): TaskError | null {
  if (event !== "RETRY" || attempt !== 1 || !uncounted || !waiting) return null;
  return waitedInVain((data as RetryData).error, waiting.sinceMs, nowMs);
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
