// Erases what a task was asked and what it made, for whoever must be able to say that it is gone: objects, the bodies of
// both records, events, the row. What stays is the fact that the task was and how it ended. The records are replaced and
// not removed: an attempt that lost its lease is still refused by the log, and a repeated request still meets its task.
import type { SQL } from "bun";
import type { Blobs } from "../blobs/blobs.ts";
import type { Bus } from "../bus/connection.ts";
import { append } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import { eraseOlder, eraseSubject } from "../bus/trim.ts";
import { type Clock, rfc3339 } from "../clock.ts";
import { AppError } from "../errors.ts";
import { partitionOf, randomToken } from "../ids.ts";
import { callbackHeaders } from "./callback.ts";
import { readResult } from "./commit.ts";
import { readJob } from "./read-job.ts";
import { type FinishedTask, type JobRecord, parseJobRecord, resultRecord } from "./records.ts";
import { eraseRow, findEnded } from "./store.ts";
import type { Owner, Tasks, TaskView } from "./tasks.ts";

export interface EraseOptions {
  readonly bus: Bus;
  /** The read model. */
  readonly sql: SQL;
  readonly blobs: Pick<Blobs, "delete">;
  readonly partitions: number;
  readonly clock: Clock;
  readonly tasks: Pick<Tasks, "read">;
  /** Told what the task is shown as from now on, once its records say nothing else. */
  readonly onErased: (taskId: string, keyId: string, dataJson: string) => Promise<void>;
}

/**
 * Resolves to the task as it is shown from now on. Idempotent: after any error it is to be called again, and goes on
 * where it was. Throws `task_not_found`, `task_not_finished`, `broker_unavailable`, `storage_unavailable`, `not_ready`
 * (the read model has not heard of the end yet).
 */
export type Erase = (taskId: string, owner: Owner) => Promise<TaskView>;

const CALL_MS_MAX = 5_000;
/** How long the read model may need to hear of an end; usually it is 50 ms. */
const PROJECTED_MS_MAX = 3_000;
const LOOK_EVERY_MS = 25;

export function createErase(options: EraseOptions): Erase {
  const { sql, clock, tasks } = options;
  return async (taskId, owner) => {
    const view = await tasks.read(taskId, owner);
    if (!view.terminal) {
      throw new AppError("task_not_finished", "The task has not ended: cancel it first, then erase its data.");
    }
    const row = await endedRow(sql, taskId);
    const nowMs = clock.now();
    const shown = JSON.parse(row.data) as ErasedTask;
    const data = shown.data_deleted_at === undefined ? erasedTask(shown, nowMs) : shown;
    const erased = { data: JSON.stringify(data), finishedMs: nowMs, resultSequence: null as number | null };
    const job = row.trimmed ? null : await jobOf(options, taskId);
    const keys = [...resultKeys(taskId, row.data), ...resultKeys(taskId, view.json), job?.inputRef?.key];
    for (const key of keys) if (key !== undefined) await options.blobs.delete(key);
    if (!row.trimmed) erased.resultSequence = await replaceResult(options, job, taskId, erased.data, nowMs);
    await eraseRow(sql, taskId, erased);
    if (!row.trimmed) await replaceJob(options, taskId);
    await eraseSubject(options.bus, streams.events, subjects.events(taskId));
    await options.onErased(taskId, owner.keyId, erased.data);
    return { ...view, json: erased.data };
  };
}

interface ErasedTask extends FinishedTask {
  readonly data_deleted_at?: string;
}

/** What is left of an end: no result, and of an error what cannot quote the input. */
function erasedTask(task: FinishedTask, nowMs: number): ErasedTask {
  const { result: _gone, ...rest } = task;
  const error = task.error && { ...task.error, message: "deleted with the task's data" };
  return { ...rest, ...(error && { error }), data_deleted_at: rfc3339(nowMs) };
}

async function endedRow(sql: SQL, taskId: string) {
  const deadline = performance.now() + PROJECTED_MS_MAX;
  for (;;) {
    const row = await findEnded(sql, taskId);
    if (row) return row;
    if (performance.now() > deadline) {
      throw new AppError("not_ready", "The task ended just now: try again.", { retryAfterS: 1 });
    }
    await Bun.sleep(LOOK_EVERY_MS);
  }
}

/** Keys of this task's own objects, wherever they stand in its public object. */
const resultKeys = (taskId: string, json: string): string[] =>
  [...json.matchAll(new RegExp(`"(results/${taskId}-[a-z0-9.-]+)"`, "g"))].map((match) => match[1] ?? "");

async function jobOf({ bus, partitions }: EraseOptions, taskId: string): Promise<JobRecord | null> {
  const stored = await readJob(bus, partitions, taskId, CALL_MS_MAX);
  return stored && parseJobRecord(stored.text);
}

/** Puts the erased end in the place of the end; resolves to its sequence, null where the log holds none any more. */
async function replaceResult(
  { bus, partitions }: EraseOptions,
  job: JobRecord | null,
  taskId: string,
  data: string,
  nowMs: number,
): Promise<number | null> {
  const partition = partitionOf(taskId, partitions);
  const stream = streams.results(partition);
  const filter = subjects.anyResult(partition, taskId);
  for (;;) {
    const stands = await readResult(bus, partitions, taskId);
    if (!stands) return null;
    const { record, sequence } = stands;
    let last = sequence;
    if ((JSON.parse(record.dataJson) as ErasedTask).data_deleted_at === undefined) {
      const { model } = JSON.parse(data) as FinishedTask;
      const subject = subjects.result(partition, model, record.token, taskId);
      const payload = resultRecord({ ...record, timeMs: nowMs, fence: randomToken() }, data);
      const appended = await append(bus, {
        subject,
        filter,
        payload,
        expectedSequence: sequence,
        timeoutMs: CALL_MS_MAX,
        headers: callbackHeaders(job?.callback),
      });
      if (appended.kind === "refused") continue; // another call of ours was first
      last = appended.sequence;
    }
    await eraseOlder(bus, stream, filter, last);
    return last;
  }
}

/** Puts a job without input in the place of the job. An actor that is given it drops it. */
async function replaceJob({ bus, partitions }: EraseOptions, taskId: string): Promise<void> {
  const partition = partitionOf(taskId, partitions);
  const stream = streams.jobs(partition);
  const filter = subjects.anyJob(partition, taskId);
  for (;;) {
    const stands = await readJob(bus, partitions, taskId, CALL_MS_MAX);
    if (!stands) return;
    const { input: _input, inputRef: _reference, ...rest } = parseJobRecord(stands.text);
    let last = stands.sequence;
    if (!rest.erased) {
      const erased: JobRecord = { ...rest, nonce: randomToken(), trace: "", erased: true };
      const appended = await append(bus, {
        subject: stands.subject,
        filter,
        payload: JSON.stringify(erased),
        expectedSequence: stands.sequence,
        timeoutMs: CALL_MS_MAX,
      });
      if (appended.kind === "refused") continue;
      last = appended.sequence;
    }
    await eraseOlder(bus, stream, filter, last);
    return;
  }
}
