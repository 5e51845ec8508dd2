// The messages of the logs, versioned and checked on the way in: a job (what was asked), a result (how it ended, a
// CloudEvent and the public event), an event (what happened on the way). Built and parsed here and nowhere else.

import type { ResultToken } from "../bus/subjects.ts";
import { rfc3339 } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Callback } from "./callback.ts";
import type { Priority, Status, TerminalStatus } from "./task.ts";

/** Inputs above this many bytes of JSON travel as blobs, not through the broker. */
export const INLINE_INPUT_BYTES_MAX = 16 * 1024;
/** Results above this many bytes of JSON become blobs. */
export const INLINE_RESULT_BYTES_MAX = 64 * 1024;

export interface InputReference {
  readonly key: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface JobRecord {
  readonly v: 1;
  readonly id: string;
  /** Id of the API key that owns the task. */
  readonly key: string;
  /** SHA-256 of the canonical request; empty where no client_request_id was given. */
  readonly hash: string;
  /** Random, of the publish that stored this record: tells a publisher that it won although its ack was lost. */
  readonly nonce: string;
  /** Milliseconds since the epoch. */
  readonly created: number;
  /** W3C traceparent, or empty. */
  readonly trace: string;
  readonly model: string;
  readonly priority: Priority;
  readonly input?: unknown;
  readonly inputRef?: InputReference;
  readonly maxAttempts?: number;
  readonly timeoutMs?: number;
  /** Its input was erased after its end. */
  readonly erased?: true;
  /** Id of the ended task that this one repeats. */
  readonly retryOf?: string;
  /** Not to be started before then; absent: at once. Milliseconds since the epoch, as the next one. */
  readonly runAt?: number;
  /** Not to be started from then on; absent: START_WITHIN_MS (times.ts) after it is due. */
  readonly startBy?: number;
  readonly callback?: Callback;
  readonly metadata: Readonly<Record<string, string>>;
}

export function parseJobRecord(text: string): JobRecord {
  const job = parseVersioned(text) as JobRecord;
  if (typeof job.id !== "string" || typeof job.key !== "string" || typeof job.model !== "string") throw unreadable();
  return job;
}

export interface TaskError {
  /** Stable, snake_case. */
  readonly code: string;
  readonly message: string;
  /** Where it happened: prepare, infer, postprocess, output, upload or queue. */
  readonly stage: string;
  readonly retryable: boolean;
}

/** Milliseconds of each part of the attempt that ended the task. */
export interface Timing {
  readonly queue_ms: number;
  readonly prepare_ms: number;
  readonly infer_ms: number;
  readonly postprocess_ms: number;
  readonly upload_ms: number;
  readonly total_ms: number;
}

/** A finished task as its owner sees it: `data` of the result record. */
export interface FinishedTask {
  readonly task_id: string;
  readonly status: TerminalStatus;
  readonly model: string;
  readonly priority: Priority;
  readonly attempt: number;
  readonly actor: { readonly id: string; readonly gpu: string } | null;
  readonly timing: Timing | null;
  readonly result?: unknown;
  readonly error?: TaskError;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string;
  readonly retry_of?: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What a result record says beyond its public `data`. */
export interface ResultEnvelope {
  readonly token: ResultToken;
  readonly taskId: string;
  readonly keyId: string;
  /** Random, of the writer: tells it that it won although its ack was lost. */
  readonly fence: string;
  /** `<attempt>.<n>` of the terminal server-sent event. */
  readonly eventId: string;
  readonly timeMs: number;
  /** The owner wants to be told of this end. The header says the same to who does not read the record. */
  readonly callback?: true;
}

export interface ResultRecord extends ResultEnvelope {
  /** JSON text of the FinishedTask; of `{task_id, cancel_requested_at}` for a cancel marker. */
  readonly dataJson: string;
}

const DATA = ',"data":';
const CALLBACK = ',"callback":"completed"';

/** `data` stands last, so that a reader can cut its text out instead of writing it anew. */
export function resultRecord(envelope: ResultEnvelope, dataJson: string): string {
  const id = envelope.token === "cancelling" ? `${envelope.taskId}.cancelling` : envelope.taskId;
  return (
    `{"specversion":"1.0","id":"${id}","source":"/millrace","type":"task.${envelope.token}",` +
    `"subject":"${envelope.taskId}","time":"${rfc3339(envelope.timeMs)}","datacontenttype":"application/json",` +
    `"keyid":"${envelope.keyId}","fence":"${envelope.fence}","eventid":"${envelope.eventId}"` +
    `${envelope.callback ? CALLBACK : ""}${DATA}${dataJson}}`
  );
}

const ENVELOPE =
  /^\{"specversion":"1\.0","id":"[^"]*","source":"\/millrace","type":"task\.(success|failure|cancelled|cancelling)","subject":"(\w+)","time":"([^"]*)","datacontenttype":"application\/json","keyid":"([^"]*)","fence":"([^"]*)","eventid":"([^"]*)"(,"callback":"completed")?,"data":/;

/** `data` is an object. Throws `internal` for any other form. */
export function parseResultRecord(text: string): ResultRecord {
  const match = ENVELOPE.exec(text);
  const timeMs = Date.parse(match?.[3] ?? "");
  if (!match || Number.isNaN(timeMs) || !text.endsWith("}}")) throw unreadable();
  const [head, token, taskId, , keyId, fence, eventId, callback] = match;
  return {
    token: token as ResultToken,
    taskId: taskId ?? "",
    timeMs,
    keyId: keyId ?? "",
    fence: fence ?? "",
    eventId: eventId ?? "",
    ...(callback && { callback: true }),
    dataJson: text.slice(head.length, -1),
  };
}

/** The status a result token stands for; null for the cancel marker, which ends nothing. */
export function statusOf(token: ResultToken): TerminalStatus | null {
  return token === "cancelling" ? null : (token.toUpperCase() as TerminalStatus);
}

export interface EventRecord {
  readonly v: 1;
  readonly attempt: number;
  /** Ascending within an attempt. */
  readonly n: number;
  /** Deaths of the process so far, while this task was in it. */
  readonly crashes: number;
  /** STARTED, RETRY, progress, delta, reset or log. */
  readonly event: string;
  /** The attempt was handed back and does not count: the next one has the same number. */
  readonly uncounted?: true;
  /** While the attempt waits for a model server. */
  readonly waiting?: Waiting;
  readonly data: unknown;
}

/** Tries of one attempt, in a row, that found no model server. */
export interface Waiting {
  /** When the first of them began, milliseconds since the epoch. */
  readonly sinceMs: number;
  readonly tries: number;
}

/** Data of a STARTED event. */
export interface StartedData {
  readonly task_id: string;
  readonly status: Status;
  readonly attempt: number;
  readonly actor: { readonly id: string; readonly gpu: string };
  readonly started_at: string;
}

/** Data of a RETRY event. */
export interface RetryData {
  readonly task_id: string;
  readonly status: Status;
  readonly attempt: number;
  readonly error: TaskError;
  /** Milliseconds until the next attempt may begin. */
  readonly retry_in_ms: number;
  /** RFC 3339: since then the task waits for a model server; the attempt does not count. Absent after one that does. */
  readonly waiting_since?: string;
}

export function parseEventRecord(text: string): EventRecord {
  const event = parseVersioned(text) as EventRecord;
  if (!Number.isInteger(event.attempt) || !Number.isInteger(event.n) || typeof event.event !== "string") {
    throw unreadable();
  }
  return event;
}

/** Whether nothing is missing between two events of a task: numbers count up from 1 in each attempt. */
export function isNext(at: Pick<EventRecord, "attempt" | "n">, next: Pick<EventRecord, "attempt" | "n">): boolean {
  return next.attempt === at.attempt ? next.n === at.n + 1 : next.attempt === at.attempt + 1 && next.n === 1;
}

/** Null for an event of a form that this version does not know: who shows events leaves it out. */
export function readEventRecord(text: string): EventRecord | null {
  try {
    return parseEventRecord(text);
  } catch {
    return null;
  }
}

function parseVersioned(text: string): unknown {
  let value: { v?: unknown } | null = null;
  try {
    value = JSON.parse(text);
  } catch {
    throw unreadable();
  }
  if (value?.v !== 1) throw unreadable();
  return value;
}

const unreadable = (): AppError =>
  new AppError("internal", "a record of the log has a form that this version does not know");
