// The texts an actor publishes: the end of a task as a commit, and the events on the way. Pure. JSON is put together
// from parts that are JSON already, so that a result is not parsed and written once more.
import { rfc3339 } from "../clock.ts";
import type { Commit } from "../tasks/commit.ts";
import { openTaskView } from "../tasks/open-task-view.ts";
import type { EventRecord, FinishedTask, RetryData, StartedData, TaskError, Timing } from "../tasks/records.ts";
import type { TerminalStatus } from "../tasks/task.ts";
import { dueOf } from "../tasks/times.ts";
import type { Held } from "./held-job.ts";

type Actor = { readonly id: string; readonly gpu: string };

/** The record that ends `held`. A cancelled one follows its marker. */
export function endedTask(
  held: Held,
  status: TerminalStatus,
  timing: Timing | null,
  outcome: { readonly resultJson?: string; readonly error?: TaskError },
  actor: Actor,
  nowMs: number,
): Commit {
  const { job } = held;
  const before: Partial<FinishedTask> = {
    task_id: job.id,
    status,
    model: job.model,
    priority: job.priority,
    attempt: held.attempt,
    actor: held.startedAtMs > 0 ? actor : null,
    timing,
  };
  const after: Partial<FinishedTask> = {
    ...(outcome.error && { error: outcome.error }),
    created_at: rfc3339(job.created),
    started_at: held.startedAtMs > 0 ? rfc3339(held.startedAtMs) : null,
    finished_at: rfc3339(nowMs),
    ...(job.retryOf !== undefined && { retry_of: job.retryOf }),
    metadata: job.metadata,
  };
  const result = outcome.resultJson === undefined ? "" : `,"result":${outcome.resultJson}`;
  return {
    token: status.toLowerCase() as Commit["token"],
    taskId: job.id,
    keyId: job.key,
    fence: held.fence || "none",
    eventId: `${held.attempt}.${held.eventNumber + 1}`,
    timeMs: nowMs,
    model: job.model,
    callback: job.callback,
    dataJson: `${JSON.stringify(before).slice(0, -1)}${result},${JSON.stringify(after).slice(1)}`,
    expectedSequence: status === "CANCELLED" ? held.markerSequence : 0,
  };
}

export function eventJson(
  held: Pick<Held, "attempt" | "eventNumber" | "crashes" | "waiting">,
  event: string,
  data: unknown,
): string {
  const { attempt, eventNumber, crashes, waiting } = held;
  // An attempt that waits is begun again under its number.
  const wait = waiting && { ...(event === "RETRY" && { uncounted: true as const }), waiting };
  return JSON.stringify({ v: 1, attempt, n: eventNumber, crashes, event, ...wait, data } satisfies EventRecord);
}

export const startedData = (taskId: string, attempt: number, actor: Actor, nowMs: number): StartedData => ({
  task_id: taskId,
  status: "STARTED",
  attempt,
  actor,
  started_at: rfc3339(nowMs),
});

/** The task as it is while `held` runs, for watchers who are to forget what earlier attempts sent. */
export const resetData = ({ job, attempt, startedAtMs }: Held, actor: Actor): object =>
  openTaskView(job, { status: "STARTED", attempt, started: { actor, started_at: rfc3339(startedAtMs) } });

export const retryData = ({ job, attempt, waiting }: Held, error: TaskError, delayMs: number): RetryData => ({
  task_id: job.id,
  status: "RETRY",
  attempt,
  error,
  retry_in_ms: delayMs,
  ...(waiting && { waiting_since: rfc3339(waiting.sinceMs) }),
});

/** `stages` and `uploadMs` are of the attempt; the queue and the total count from when the task was due. */
export function timingOf(
  held: Held,
  stages: { readonly prepareMs: number; readonly inferMs: number; readonly postprocessMs: number },
  uploadMs: number,
  nowMs: number,
): Timing {
  const round = (ms: number): number => Math.max(0, Math.round(ms * 100) / 100);
  return {
    queue_ms: round(held.startedAtMs - dueOf(held.job)),
    prepare_ms: round(stages.prepareMs),
    infer_ms: round(stages.inferMs),
    postprocess_ms: round(stages.postprocessMs),
    upload_ms: round(uploadMs),
    total_ms: round(nowMs - dueOf(held.job)),
  };
}
