// Writes what the logs say into SQL, in batches, each with its cursors in one transaction. Fed by projector.ts; the only
// writer of task rows. A task that ends within a second of its start is written once. It may lag, and must never make a
// row older: the upsert ignores what would.
import type { SQL } from "bun";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { HeardResult, OnJob } from "./logs.ts";
import { type FinishedTask, type JobRecord, statusOf } from "./records.ts";
import { searchText } from "./search-text.ts";
import { saveBatch, type TaskRow } from "./store.ts";
import { initial, step } from "./task.ts";
import { dueOf, startByOf } from "./times.ts";

export interface Projection {
  /** `read` is called when the task is to be written. */
  readonly job: OnJob;
  result(heard: HeardResult, stream: string): void;
  /** When more may be handed over; null: at once. The database is slower than the logs, or away. */
  room(): Promise<void> | null;
  /** Writes all that was handed over, or what it can until stop(). */
  flush(): Promise<void>;
  /** Writes what it has, and ends; what cannot be written is left to who reads on from the cursors. */
  stop(): Promise<void>;
}

/** Rows of one batch: 10 to 20 ms of SQLite. */
const BATCH_MAX = 1_024;
const FLUSH_EVERY_MS = 50;
/** How long a task that has not ended is held back, in the hope of writing it once. */
const HOLD_MS = 1_000;
/** Unwritten rows beyond which nothing is held back, and no more are taken. */
const HELD_MAX = 20_000;
const RETRY_MS = 1_000;

interface Place {
  readonly stream: string;
  readonly sequence: number;
}

interface Unwritten {
  /** What the log of results has said; null where only the job is known. */
  readonly row: TaskRow | null;
  /** Parses the job, which is done when the row is written; null where it has not been heard. */
  readonly read: (() => JobRecord) | null;
  /** It waits for its time: gateways find it by its row, so the row is written at once. */
  readonly waits: boolean;
  readonly heardAtMs: number;
  /** Where the task's job stands, while no row of it is written. */
  readonly job: Place | null;
  /** Where the first result that is not written stands: a cancel marker, or the end. */
  readonly result: Place | null;
}

export function openProjection(sql: SQL, log: Log): Projection {
  const unwritten = new Map<string, Unwritten>();
  const ended = new Set<string>();
  const seen = new Map<string, number>();
  let writing: Promise<void> | null = null;
  let stopped = false;
  let moved = false;
  let full: PromiseWithResolvers<void> | null = null;
  const makeRoom = (): void => {
    if (!full || (unwritten.size > HELD_MAX / 2 && !stopped)) return;
    full.resolve();
    full = null;
  };

  /** Cursors: what a stream was read to, but not past a record that is still to be written. */
  const cursors = (): Record<string, number> => {
    const safe = new Map(seen);
    const stopBefore = (place: Place | null): void => {
      if (place && place.sequence <= (safe.get(place.stream) ?? 0)) safe.set(place.stream, place.sequence - 1);
    };
    for (const { job, result } of unwritten.values()) {
      stopBefore(job);
      stopBefore(result);
    }
    return Object.fromEntries(safe);
  };

  const writeBatch = async (everything: boolean): Promise<number> => {
    const now = performance.now();
    const batch: [string, Unwritten][] = [];
    const ready = (id: string, entry: Unwritten): boolean =>
      everything || entry.waits || ended.has(id) || now - entry.heardAtMs >= HOLD_MS || unwritten.size > HELD_MAX;
    for (const [id, entry] of unwritten) {
      if (batch.length >= BATCH_MAX) break;
      if (ready(id, entry)) batch.push([id, entry]);
    }
    if (batch.length === 0 && !moved) return 0;
    for (const [id] of batch) unwritten.delete(id);
    moved = false;
    try {
      await saveBatch(sql, rowsOf(batch), cursors());
      for (const [id] of batch) if (!unwritten.has(id)) ended.delete(id);
      makeRoom();
      return batch.length;
    } catch (error) {
      // Nothing is lost: the rows go back, with what has come since.
      for (const [id, entry] of batch) unwritten.set(id, joined(entry, unwritten.get(id)));
      moved = true;
      log.error({ error: messageOf(error) }, "read model cannot be written; trying again");
      if (!stopped) await Bun.sleep(RETRY_MS);
      return 0;
    }
  };
  const write = (everything: boolean): Promise<void> => {
    writing ??= (async () => {
      while ((await writeBatch(everything)) === BATCH_MAX);
    })().finally(() => {
      writing = null;
    });
    return writing;
  };
  const timer = setInterval(() => void write(false), FLUSH_EVERY_MS);

  const rowsOf = (batch: readonly [string, Unwritten][]): TaskRow[] =>
    batch.flatMap(([id, { row, read, waits }]) => {
      try {
        if (!read) return row ? [row] : [];
        const job = read();
        const ofJob = rowOfJob(job, waits);
        const inputBytes = row && row.finishedMs !== null ? null : inputBytesOf(job);
        if (!row) return [{ ...ofJob, inputBytes }];
        return [{ ...row, inputBytes, inputText: ofJob.inputText, retryOf: ofJob.retryOf }];
      } catch (error) {
        log.error({ task_id: id, error: messageOf(error) }, "job left out of the read model");
        return row ? [row] : [];
      }
    });
  const put = (id: string, heard: Partial<Unwritten>): void => {
    const before = unwritten.get(id);
    unwritten.set(id, {
      row: heard.row ?? before?.row ?? null,
      read: before?.read ?? heard.read ?? null,
      waits: heard.waits ?? before?.waits ?? false,
      heardAtMs: before?.heardAtMs ?? performance.now(),
      job: before?.job ?? heard.job ?? null,
      result: before?.result ?? heard.result ?? null,
    });
  };
  const note = (stream: string, sequence: number): void => {
    seen.set(stream, Math.max(sequence, seen.get(stream) ?? 0));
    moved = true;
  };

  return {
    job(taskId, read, stream, sequence, waits) {
      note(stream, sequence);
      put(taskId, { read, waits, job: { stream, sequence } }); // a job that waited comes again, in its queue
    },
    result(heard, stream) {
      note(stream, heard.sequence);
      const { taskId } = heard.record;
      const row = rowOfResult(heard, unwritten.get(taskId)?.row ?? null);
      put(taskId, { row, result: { stream, sequence: heard.sequence } });
      if (statusOf(heard.record.token)) ended.add(heard.record.taskId);
    },
    room() {
      if (unwritten.size <= HELD_MAX || stopped) return null;
      full ??= Promise.withResolvers<void>();
      return full.promise;
    },
    async flush() {
      await writing;
      while (!stopped && (unwritten.size > 0 || moved)) await write(true);
    },
    async stop() {
      if (stopped) return;
      stopped = true;
      clearInterval(timer);
      makeRoom();
      await writing;
      await write(true);
    },
  };
}

/** An entry that could not be written and what came meanwhile, which knows the end but not the cancel before it. */
function joined(older: Unwritten, newer: Unwritten | undefined): Unwritten {
  if (!newer) return older;
  const { heardAtMs, job, result } = older;
  const read = older.read ?? newer.read;
  const entry = {
    read,
    waits: newer.read ? newer.waits : older.waits,
    heardAtMs,
    job: job ?? newer.job,
    result: result ?? newer.result,
  };
  if (!newer.row || !older.row) return { ...entry, row: newer.row ?? older.row };
  const { cancelSequence, cancelRequestedMs } = older.row;
  const cancel = newer.row.cancelSequence === null ? { cancelSequence, cancelRequestedMs } : {};
  return { ...entry, row: { ...newer.row, ...cancel } };
}

/** Counted for tasks that stay open alone: most have ended when they are written. */
const inputBytesOf = ({ input, inputRef }: JobRecord): number =>
  inputRef?.sizeBytes ?? Buffer.byteLength(JSON.stringify(input) ?? "");

function rowOfJob(job: JobRecord, waits: boolean): TaskRow {
  return {
    id: job.id,
    key: job.key,
    model: job.model,
    priority: job.priority,
    createdMs: job.created,
    metadata: JSON.stringify(job.metadata),
    dueMs: waits ? dueOf(job) : null,
    startByMs: startByOf(job),
    status: initial.status,
    attempt: initial.attempt,
    cancelSequence: null,
    cancelRequestedMs: null,
    finishedMs: null,
    eventId: null,
    data: null,
    resultSequence: null,
    inputBytes: null,
    inputText: searchText(job.input),
    errorText: null,
    retryOf: job.retryOf ?? null,
  };
}

/** What a cancel marker says of its task: enough for a row, should the job not have been read yet. */
export interface MarkerData {
  readonly task_id: string;
  readonly model: string;
  readonly priority: TaskRow["priority"];
  readonly created_at: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly cancel_requested_at: string;
}

/** Null where there is none, and of erased data, whose row says nothing either. */
function errorTextOf(data: FinishedTask | MarkerData): string | null {
  if (!("error" in data) || !data.error || "data_deleted_at" in data) return null;
  return searchText([data.error.code, data.error.message]);
}

function rowOfResult({ record, sequence }: HeardResult, before: TaskRow | null): TaskRow {
  const status = statusOf(record.token);
  const data = JSON.parse(record.dataJson) as FinishedTask | MarkerData;
  const base: TaskRow = {
    id: record.taskId,
    key: record.keyId,
    model: data.model,
    priority: data.priority,
    createdMs: Date.parse(data.created_at),
    metadata: JSON.stringify(data.metadata),
    dueMs: null,
    startByMs: null,
    status: before?.status ?? initial.status,
    attempt: before?.attempt ?? initial.attempt,
    cancelSequence: before?.cancelSequence ?? null,
    cancelRequestedMs: before?.cancelRequestedMs ?? null,
    finishedMs: null,
    eventId: null,
    data: null,
    resultSequence: null,
    inputBytes: null,
    inputText: null,
    errorText: errorTextOf(data),
    retryOf: "retry_of" in data && data.retry_of ? data.retry_of : null,
  };
  if (!status) return { ...base, cancelSequence: sequence, cancelRequestedMs: record.timeMs };
  const attempt = "attempt" in data ? data.attempt : 0;
  const next = step({ status: base.status, attempt: base.attempt }, { kind: "ended", status, attempt });
  const end = { finishedMs: record.timeMs, eventId: record.eventId, data: record.dataJson, resultSequence: sequence };
  return { ...base, ...next, ...end };
}
