// The public object of a task that has not ended, field by field: what GET answers, a `reset` event shows and webhooks
// on the way carry. Called by reader.ts, callback.ts and actors, so that all three show the same. Pure; an ended task's
// object is in its result record and never comes from here.
import { rfc3339 } from "../clock.ts";
import type { Place } from "./queues.ts";
import type { JobRecord, RetryData, StartedData } from "./records.ts";
import type { TaskState } from "./task.ts";

/** Where a task stands, as far as the caller knows. Times are milliseconds since the epoch. */
export interface Standing extends Pick<TaskState, "status" | "attempt"> {
  /** Absent where no attempt runs. */
  readonly started?: Pick<StartedData, "actor" | "started_at">;
  /** Between two attempts, or while it waits for a model server: why. */
  readonly retry?: Pick<RetryData, "error" | "waiting_since">;
  /** Its place in the queue. */
  readonly place?: Place | null;
  /** 0 or absent for none. */
  readonly cancelRequestedMs?: number;
}

/** The fields are described in http/schemas.ts. */
export function openTaskView(job: JobRecord, standing: Standing): object {
  const { status, attempt, started, retry, place, cancelRequestedMs = 0 } = standing;
  return {
    task_id: job.id,
    status,
    model: job.model,
    priority: job.priority,
    attempt,
    ...(started && { actor: started.actor }),
    ...(place && { queue_position: place.position, eta_ms: place.etaMs }),
    created_at: rfc3339(job.created),
    ...(job.runAt !== undefined && { run_at: rfc3339(job.runAt) }),
    ...(job.startBy !== undefined && { deadline: rfc3339(job.startBy) }),
    started_at: started?.started_at ?? null,
    ...(retry && { error: retry.error }),
    ...(retry?.waiting_since && { waiting_since: retry.waiting_since }),
    ...(cancelRequestedMs > 0 && { cancel_requested_at: rfc3339(cancelRequestedMs) }),
    ...(job.retryOf !== undefined && { retry_of: job.retryOf }),
    metadata: job.metadata,
  };
}
