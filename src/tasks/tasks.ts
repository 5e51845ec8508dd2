// The contract between the HTTP layer and the tasks: what a gateway can do with a task. gateway.ts implements it on
// JetStream and SQL; nothing of NATS or SQL is visible here.
import type { CallbackEvent } from "./callback.ts";
import type { Priority, Status } from "./task.ts";
import type { Timeline } from "./timeline.ts";

/** The body of `POST /v1/tasks`, checked against its schema (not yet against the runner's). */
export interface TaskRequest {
  readonly model: string;
  readonly input: unknown;
  readonly priority?: Priority;
  readonly client_request_id?: string;
  readonly max_attempts?: number;
  readonly timeout_ms?: number;
  /** RFC 3339: not before then. Not beside `delay_ms`. */
  readonly run_at?: string;
  readonly delay_ms?: number;
  /** RFC 3339: latest start. */
  readonly deadline?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Set by a retry, never by a client: id of the task that this one repeats. */
  readonly retry_of?: string;
  readonly callback_url?: string;
  readonly callback_events?: readonly CallbackEvent[];
}

/** Who asks. Tasks of another key do not exist for it. */
export interface Owner {
  readonly keyId: string;
}

export interface Accepted {
  readonly taskId: string;
  readonly status: Status;
  /** True when this request had been accepted before. */
  readonly replayed: boolean;
}

/** A task as its owner sees it. */
export interface TaskView {
  readonly taskId: string;
  readonly status: Status;
  readonly terminal: boolean;
  /** The public task object as JSON text, ready to be sent. */
  readonly json: string;
}

/** Where the result of a SUCCESS is: in the record, or in the store. */
export type TaskResult =
  | { readonly kind: "json"; readonly json: string }
  | {
      readonly kind: "blob";
      readonly key: string;
      readonly contentType: string;
      readonly sizeBytes: number;
      readonly sha256: string;
    };

/** One server-sent event. `id` is `<attempt>.<n>`, ascending within a task. */
export interface TaskEvent {
  readonly id: string;
  /** A status, or `progress`, `delta`, `log`, `reset`. */
  readonly event: string;
  /** JSON text without line breaks. */
  readonly data: string;
}

export interface CancelRequested {
  readonly status: Status;
  /** RFC 3339. */
  readonly cancelRequestedAt: string;
}

export interface Tasks {
  /**
   * Accepts a task: once this resolves the task is kept. Idempotent by `client_request_id`. Throws `unknown_model`,
   * `invalid_request`, `idempotency_mismatch`, `too_many_queued`, `queue_full`, `broker_unavailable`,
   * `storage_unavailable`.
   */
  accept(request: TaskRequest, owner: Owner, trace: string | null): Promise<Accepted>;
  /** Never older than what any gateway has shown of this task. Throws `task_not_found`, `broker_unavailable`. */
  read(taskId: string, owner: Owner): Promise<TaskView>;
  /** Like `read`, but holds until the task has ended, `waitMs` (at most 60,000) have passed or `signal` aborts. */
  wait(taskId: string, owner: Owner, waitMs: number, signal: AbortSignal): Promise<TaskView>;
  /** Throws `task_not_found`, `no_result` (ended otherwise); null while the task has not ended. */
  result(taskId: string, owner: Owner): Promise<TaskResult | null>;
  /**
   * The task's events after `lastEventId` (from the start when null), in order, ending with the terminal one. Resolves
   * to null when `lastEventId` is the terminal event's. Ends early when `signal` aborts. Throws `task_not_found`.
   */
  events(
    taskId: string,
    owner: Owner,
    lastEventId: string | null,
    signal: AbortSignal,
  ): Promise<AsyncIterable<TaskEvent> | null>;
  /** What has happened to the task, oldest first. Throws `task_not_found`, `broker_unavailable`. */
  timeline(taskId: string, owner: Owner): Promise<Timeline>;
  /** Throws `task_not_found`, `task_finished`. Idempotent. */
  cancel(taskId: string, owner: Owner): Promise<CancelRequested>;
}
