// Reads one task: its end from memory or SQL where it has been heard of, else the state from the logs through the
// leader. What it answers is never older than what any gateway has answered before. Lists do not come from here.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import { readLast } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import { within } from "../db/deadline.ts";
import { isPostgres } from "../db/dialect.ts";
import { asDatabaseError } from "../db/postgres.ts";
import { AppError } from "../errors.ts";
import { readResult } from "./commit.ts";
import type { EndedTask, Feed } from "./feed.ts";
import { openTaskView } from "./open-task-view.ts";
import type { Place } from "./queues.ts";
import { readJob } from "./read-job.ts";
import {
  type EventRecord,
  type JobRecord,
  parseJobRecord,
  type RetryData,
  readEventRecord,
  type StartedData,
  statusOf,
} from "./records.ts";
import { type EndedRow, findEnded } from "./store.ts";
import { initial, step, type TaskState } from "./task.ts";
import type { Owner, TaskView } from "./tasks.ts";

export type Reading =
  | { readonly kind: "ended"; readonly ended: EndedTask }
  | { readonly kind: "open"; readonly open: OpenTask };

/** A task that has not ended. */
export interface OpenTask {
  readonly job: JobRecord;
  readonly jobSubject: string;
  /** Where the job stands in its log. */
  readonly jobSequence: number;
  readonly last: EventRecord | null;
  /** Sequence of its cancel marker, 0 for none. */
  readonly markerSequence: number;
  readonly cancelRequestedMs: number;
}

/** Tasks known to be open here; when there are more, all are forgotten and SQL is asked for each again. */
const OPEN_MAX = 100_000;

export interface ReaderOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  /** False while the database is known not to answer. */
  readonly sqlReady: () => boolean;
  readonly feed: Feed;
  readonly partitions: number;
}

export interface Reader {
  /** Throws `task_not_found`, also for a task of another key; `broker_unavailable`. */
  read(taskId: string, owner: Owner): Promise<Reading>;
  /** Past memory and SQL: what the logs say now. */
  readLogs(taskId: string, owner: Owner): Promise<Reading | null>;
  /** The task was accepted here just now: until its end is heard there is no need to look for one in SQL. */
  opened(taskId: string): void;
  closed(taskId: string): void;
}

const READ_MS_MAX = 2_000;
/** A row from a database elsewhere. */
const ROW_MS_MAX = 1_000;

export function createReader({ bus, sql, sqlReady, feed, partitions }: ReaderOptions): Reader {
  /** Undefined: the database cannot say, and the logs have to do. */
  const rowOf = async (taskId: string): Promise<EndedRow | null | undefined> => {
    if (!isPostgres(sql)) return findEnded(sql, taskId);
    if (!sqlReady()) return undefined;
    try {
      return await within(ROW_MS_MAX, findEnded(sql, taskId));
    } catch (error) {
      if (asDatabaseError(error)) return undefined;
      throw error;
    }
  };
  const own = (keyId: string, owner: Owner): boolean => keyId === owner.keyId;

  const readLogs = async (taskId: string, owner: Owner): Promise<Reading | null> => {
    const [result, job, event] = await Promise.all([
      readResult(bus, partitions, taskId),
      readJob(bus, partitions, taskId, READ_MS_MAX),
      readLast(bus, streams.events, subjects.events(taskId), READ_MS_MAX),
    ]);
    const status = result && statusOf(result.record.token);
    if (result && status) {
      if (!own(result.record.keyId, owner)) throw notFound();
      const { keyId, eventId, dataJson, timeMs } = result.record;
      return { kind: "ended", ended: { keyId, status, eventId, dataJson, endedAtMs: timeMs } };
    }
    if (!job) return null;
    const record = parseJobRecord(job.text);
    if (!own(record.key, owner)) throw notFound();
    const markerSequence = result?.sequence ?? 0;
    const place = { jobSubject: job.subject, jobSequence: job.sequence };
    const open = { job: record, ...place, last: event && readEventRecord(event.text), markerSequence };
    return { kind: "open", open: { ...open, cancelRequestedMs: result?.record.timeMs ?? 0 } };
  };

  const open = new Set<string>();
  const reader: Reader = {
    readLogs,
    opened(taskId) {
      if (open.size >= OPEN_MAX) open.clear();
      open.add(taskId);
    },
    closed: (taskId) => void open.delete(taskId),
    async read(taskId, owner) {
      const recent = feed.recent(taskId);
      if (recent) {
        if (!own(recent.keyId, owner)) throw notFound();
        return { kind: "ended", ended: recent };
      }
      const row = open.has(taskId) ? null : await rowOf(taskId);
      if (row && !own(row.keyId, owner)) throw notFound();
      const history: Reading | null = !row
        ? null
        : {
            kind: "ended",
            ended: {
              keyId: row.keyId,
              status: row.status as EndedTask["status"],
              eventId: row.eventId,
              dataJson: row.data,
              endedAtMs: row.finishedMs,
            },
          };
      if (history && !row?.trimmed) return history;
      // A task that the logs no longer hold may have been followed by another of the same client_request_id; its own
      // job may still stand there without its result, for as long as the janitor needs.
      const reading = await readLogs(taskId, owner);
      const sameTask = reading?.kind === "open" && reading.open.job.created === row?.createdMs;
      if (reading && !sameTask) return reading;
      if (history) return history;
      // Nothing in the logs, though it was taken for open: it has left them long ago.
      if (open.delete(taskId)) return reader.read(taskId, owner);
      if (row === undefined) throw new AppError("database_unavailable", "The task is not in the logs any more.");
      throw notFound();
    },
  };
  return reader;
}

const notFound = (): AppError => new AppError("task_not_found", "There is no such task.");

/** The state of a task that has not ended, as far as its last event tells. */
export function stateOf(last: EventRecord | null): TaskState {
  if (!last) return initial;
  const started = step(initial, { kind: "started", attempt: last.attempt });
  return last.event === "RETRY" ? step(started, { kind: "retried", attempt: last.attempt }) : started;
}

/** The task as its owner sees it; `place` is where it stands in its queue. */
export function viewOf(taskId: string, reading: Reading, place: Place | null = null): TaskView {
  if (reading.kind === "ended") {
    return { taskId, status: reading.ended.status, terminal: true, json: reading.ended.dataJson };
  }
  const { job, last, cancelRequestedMs } = reading.open;
  const state = stateOf(last);
  const started = last?.event === "STARTED" ? { started: last.data as StartedData } : null;
  const retry = last?.event === "RETRY" ? { retry: last.data as RetryData } : null;
  const view = openTaskView(job, { ...state, ...started, ...retry, place, cancelRequestedMs });
  return { taskId, status: state.status, terminal: false, json: JSON.stringify(view) };
}
