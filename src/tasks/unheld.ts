// The end of a task that no actor holds, written by a gateway: cancelled, or overdue. Pure; commit.ts writes it.
import { rfc3339 } from "../clock.ts";
import { randomToken } from "../ids.ts";
import type { Commit } from "./commit.ts";
import type { OpenTask } from "./reader.ts";
import type { FinishedTask, TaskError } from "./records.ts";

export type UnheldEnd = { readonly status: "CANCELLED" } | { readonly status: "FAILURE"; readonly error: TaskError };

/** Follows the cancel marker where one stands: CANCELLED is the only end that may. */
export function unheldEnd(taskId: string, task: OpenTask, end: UnheldEnd, nowMs: number): Commit {
  const { job, last } = task;
  const attempt = last?.attempt ?? 0;
  const ended: FinishedTask = {
    task_id: taskId,
    status: end.status,
    model: job.model,
    priority: job.priority,
    attempt,
    actor: null,
    timing: null,
    ...(end.status === "FAILURE" && { error: end.error }),
    created_at: rfc3339(job.created),
    started_at: null,
    finished_at: rfc3339(nowMs),
    ...(job.retryOf !== undefined && { retry_of: job.retryOf }),
    metadata: job.metadata,
  };
  return {
    token: end.status === "CANCELLED" ? "cancelled" : "failure",
    taskId,
    keyId: job.key,
    fence: randomToken(),
    eventId: `${attempt}.${(last?.n ?? 0) + 1}`,
    timeMs: nowMs,
    model: job.model,
    callback: job.callback,
    dataJson: JSON.stringify(ended),
    expectedSequence: task.markerSequence,
  };
}
