// What happened to a job before this delivery, from the last event and the last result of its task. Pure: decides
// whether the job is run, and as which attempt.
import type { StoredResult } from "../tasks/commit.ts";
import { overdueWait } from "../tasks/model-wait.ts";
import { type EventRecord, type RetryData, statusOf, type TaskError, type Waiting } from "../tasks/records.ts";
import { deadlineError } from "../tasks/times.ts";
import { crashError } from "./hand-back.ts";

/** Deaths of the process with a task in it, after which the task is not run again. */
export const CRASHES_MAX = 2;
/**
 * Deliveries without any trace of an attempt, after which a task counts as poison: its events may have been lost. One
 * that waits for a model server is delivered some eighty times in half an hour.
 */
const SILENT_DELIVERIES_MAX = 256;

export type Verdict =
  /** It has ended: nothing to do but to ack. */
  | { readonly kind: "ended" }
  /** A cancel stands and nobody has it: end it so. */
  | {
      readonly kind: "cancelled";
      readonly markerSequence: number;
      readonly attempt: number;
      readonly eventNumber: number;
    }
  | { readonly kind: "failed"; readonly error: TaskError; readonly attempt: number; readonly eventNumber: number }
  | {
      readonly kind: "run";
      readonly attempt: number;
      readonly crashes: number;
      readonly eventNumber: number;
      /** The attempt waits for a model server, and is begun again. */
      readonly waiting?: Waiting;
    };

/**
 * `delivered` is the broker's count, 1 on the first delivery; `last` the task's newest event, if any is known. `overdue`:
 * its latest start has passed, which ends only what has never been started, or was in vain for want of a model server.
 */
export function judge(
  result: StoredResult | null,
  last: EventRecord | null,
  delivered: number,
  maxAttempts: number,
  overdue = false,
  nowMs = 0,
): Verdict {
  if (result && statusOf(result.record.token) !== null) return { kind: "ended" };
  const attempt = last?.attempt ?? 0;
  const eventNumber = last?.n ?? 0;
  if (result) return { kind: "cancelled", markerSequence: result.sequence, attempt, eventNumber };
  if (!last) {
    if (overdue) return { kind: "failed", error: deadlineError, attempt: 0, eventNumber: 0 };
    if (delivered > SILENT_DELIVERIES_MAX) return { kind: "failed", error: poisonError, attempt: 0, eventNumber: 0 };
    return { kind: "run", attempt: 1, crashes: 0, eventNumber: 0 };
  }
  if (last.uncounted) {
    const { crashes, waiting } = last;
    const inVain = overdue ? overdueWait(last, nowMs) : null;
    if (inVain) return { kind: "failed", error: inVain, attempt, eventNumber };
    return { kind: "run", attempt, crashes, eventNumber, ...(waiting && { waiting }) };
  }
  // An attempt that began and left no word died with its host.
  const unaccounted = last.event !== "RETRY";
  const crashes = last.crashes + (unaccounted ? 1 : 0);
  if (crashes >= CRASHES_MAX) return { kind: "failed", error: poisonError, attempt, eventNumber };
  if (attempt >= maxAttempts) {
    const error = unaccounted ? crashError : (last.data as RetryData).error;
    return { kind: "failed", error: { ...error, retryable: false }, attempt, eventNumber };
  }
  return { kind: "run", attempt: attempt + 1, crashes, eventNumber: 0 };
}

const poisonError: TaskError = {
  code: "poison",
  message: "the actor's process died twice while it worked on this task",
  stage: "infer",
  retryable: false,
};
