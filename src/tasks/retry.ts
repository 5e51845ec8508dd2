// Repeats a task that has ended: a new task of the same request, which names the old one. Called by the routes and by
// bulk retries. The request comes from the log, which keeps it for TASK_TTL after the end; it is checked against the
// model as it is now, like a new one, and the old task stays as it is.
import type { Blobs } from "../blobs/blobs.ts";
import type { Bus } from "../bus/connection.ts";
import { AppError, asAppError } from "../errors.ts";
import type { Models } from "../models/models.ts";
import { readJob } from "./read-job.ts";
import { type JobRecord, parseJobRecord } from "./records.ts";
import type { Accepted, Owner, TaskRequest, Tasks } from "./tasks.ts";

export interface RetryOptions {
  readonly bus: Bus;
  readonly blobs: Pick<Blobs, "read">;
  readonly partitions: number;
  readonly models: Pick<Models, "knows" | "check">;
  readonly tasks: Pick<Tasks, "accept" | "read">;
}

/**
 * Accepts the request of an ended task once more. With a `clientRequestId` it does so once, however often it is called.
 * Throws `task_not_found`, `task_not_finished`, `input_expired`, `unknown_model`, `invalid_request` (the model takes
 * other inputs by now), and what `Tasks.accept` throws.
 */
export type Retry = (
  taskId: string,
  owner: Owner,
  trace: string | null,
  clientRequestId: string | null,
) => Promise<Accepted>;

const READ_MS_MAX = 2_000;
/** What a request body may have, and so any input. */
const INPUT_BYTES_MAX = 16 * 1024 * 1024;

export function createRetry({ bus, blobs, partitions, models, tasks }: RetryOptions): Retry {
  const jobOf = async (taskId: string, owner: Owner): Promise<JobRecord> => {
    const stored = await readJob(bus, partitions, taskId, READ_MS_MAX);
    const job = stored && parseJobRecord(stored.text);
    if (job?.key !== owner.keyId || job.erased) throw expired();
    return job;
  };
  return async (taskId, owner, trace, clientRequestId) => {
    const { terminal } = await tasks.read(taskId, owner);
    if (!terminal) throw new AppError("task_not_finished", "The task has not ended: only what has ended is retried.");
    const job = await jobOf(taskId, owner);
    const request: TaskRequest = {
      model: job.model,
      input: await inputOf(job, blobs),
      priority: job.priority,
      ...(clientRequestId !== null && { client_request_id: clientRequestId }),
      ...(job.maxAttempts !== undefined && { max_attempts: job.maxAttempts }),
      ...(job.timeoutMs !== undefined && { timeout_ms: job.timeoutMs }),
      metadata: job.metadata,
      ...(job.callback && { callback_url: job.callback.url, callback_events: job.callback.events }),
      retry_of: taskId,
    };
    checkAgainst(models, request);
    return tasks.accept(request, owner, trace);
  };
}

/** A copy of its own is stored for the new task, so that erasing one of the two leaves the other whole. */
async function inputOf({ input, inputRef }: JobRecord, blobs: Pick<Blobs, "read">): Promise<unknown> {
  if (!inputRef) return input;
  try {
    return JSON.parse(new TextDecoder().decode(await blobs.read(inputRef.key, INPUT_BYTES_MAX)));
  } catch (error) {
    const code = asAppError(error)?.code;
    if (code === "blob_not_found" || code === "blob_corrupt") throw expired();
    throw error;
  }
}

function checkAgainst(models: Pick<Models, "knows" | "check">, { model, input }: TaskRequest): void {
  if (!models.knows(model)) throw new AppError("unknown_model", "No actor offers the task's model any more.");
  const problems = models.check(model, input);
  if (problems.length === 0) return;
  const fields = problems.map(({ path, message }) => ({ path: `/input${path}`, message }));
  throw new AppError("invalid_request", "The task's input does not match the model's present schema.", { fields });
}

const expired = (): AppError =>
  new AppError("input_expired", "The task's input is no longer kept: submit it as a new task.");
