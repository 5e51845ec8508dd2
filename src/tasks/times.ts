// When a task may start: from what its request says, and from what its job record holds. Pure. Called by accept, by the
// actors (is this job overdue?) and by the read model; nobody else computes a task's times.
import { type AppError, invalidField } from "../errors.ts";
import type { JobRecord, TaskError } from "./records.ts";
import type { TaskRequest } from "./tasks.ts";

/** How far ahead a task may be planned, and how long it may wait after it is due. */
export const AHEAD_MS_MAX = 365 * 86_400_000;
/** A task that has not been started so long after it was due ends as `deadline_exceeded`, where it names no deadline. */
const START_WITHIN_MS = 86_400_000;

export type StartTimes = Pick<JobRecord, "runAt" | "startBy">;

/** The times of a request that is accepted at `nowMs`; null for one that may start at once and names no deadline. */
export function startTimes({ run_at, delay_ms, deadline }: TaskRequest, nowMs: number): StartTimes | null {
  if (run_at === undefined && delay_ms === undefined && deadline === undefined) return null;
  return {
    ...(run_at !== undefined && { runAt: Date.parse(run_at) }),
    ...(delay_ms !== undefined && { runAt: nowMs + delay_ms }),
    ...(deadline !== undefined && { startBy: Date.parse(deadline) }),
  };
}

/**
 * What is wrong with the times of a request, an `invalid_request`; null for nothing. A `run_at` in the past is right and
 * means at once; a deadline that is over before the task is due is not.
 */
export function timesProblem(request: TaskRequest, { runAt, startBy }: StartTimes, nowMs: number): AppError | null {
  const dueMs = Math.max(nowMs, runAt ?? nowMs);
  if (request.run_at !== undefined && request.delay_ms !== undefined) {
    return invalidField("/delay_ms", "cannot stand beside run_at");
  }
  if (dueMs > nowMs + AHEAD_MS_MAX) return invalidField("/run_at", "is more than 365 days ahead");
  if (startBy === undefined) return null;
  if (startBy <= dueMs) return invalidField("/deadline", "must be after the task is due");
  return startBy > dueMs + AHEAD_MS_MAX
    ? invalidField("/deadline", "is more than 365 days after the task is due")
    : null;
}

/** How a task ends that was not started in time. */
export const deadlineError: TaskError = {
  code: "deadline_exceeded",
  message: "the task was not started before its deadline",
  stage: "queue",
  retryable: true,
};

/** When the job could first have been started, milliseconds since the epoch. */
export const dueOf = (job: Pick<JobRecord, "created" | "runAt">): number =>
  job.runAt === undefined ? job.created : Math.max(job.created, job.runAt);

/** True where the job must not be started any more. */
export const isOverdue = (job: Pick<JobRecord, "created" | "runAt" | "startBy">, nowMs: number): boolean =>
  startByOf(job) <= nowMs;

/** From then on the job is no longer started. Milliseconds since the epoch. */
export const startByOf = (job: Pick<JobRecord, "created" | "runAt" | "startBy">): number =>
  job.startBy ?? dueOf(job) + START_WITHIN_MS;
