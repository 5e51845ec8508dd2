// The two logs as a writer and a reader see them: append by compare-and-set, read the last record of a task. Both ask
// the stream's leader, never a follower's copy: there is no reading of our own writes otherwise.
import { AppError } from "../errors.ts";
import type { Bus, Headers } from "./connection.ts";

/** A stored record. */
export interface LogRecord {
  readonly subject: string;
  readonly sequence: number;
  readonly text: string;
  /** When the broker stored it, milliseconds since the epoch. */
  readonly storedAtMs: number;
}

export interface Append {
  readonly subject: string;
  /** Covers `subject`; the compare-and-set looks at the last record of any subject it matches. */
  readonly filter: string;
  readonly payload: string;
  /** Sequence of the last record under `filter`; 0: there must be none. */
  readonly expectedSequence: number;
  readonly timeoutMs: number;
  /** Further headers, of our own making. */
  readonly headers?: Headers;
}

/** `stored`: this call's record is in the log. `refused`: another record stands there; read who won. */
export type Appended = { readonly kind: "stored"; readonly sequence: number } | { readonly kind: "refused" };

/** The stream stands and holds no such record; a missing stream (10059) has the same HTTP-like code 404. */
const NO_MESSAGE = 10037;
const WRONG_LAST_SEQUENCE = new Set([10071, 10164]);
/** Maximum bytes or messages reached, store limits, no storage: the stream takes no more for now. */
const FULL = new Set([10077, 10023, 10047, 10122]);

interface ApiError {
  readonly code: number;
  readonly err_code?: number;
  readonly description?: string;
}

/**
 * Appends a record if nothing newer stands under its filter. Throws `queue_full` when the stream is full, and
 * `broker_unavailable` when the outcome is not known: the record may be stored. Repeat it then: a refusal means "read
 * who won", and the winner may be this very record.
 */
export async function append(bus: Bus, record: Append): Promise<Appended> {
  const reply = await bus.request(record.subject, record.payload, {
    timeoutMs: record.timeoutMs,
    headers: {
      "Nats-Expected-Last-Subject-Sequence": String(record.expectedSequence),
      "Nats-Expected-Last-Subject-Sequence-Subject": record.filter,
      ...record.headers,
    },
  });
  const ack = JSON.parse(reply.text()) as { seq?: number; error?: ApiError };
  if (!ack.error) return { kind: "stored", sequence: ack.seq ?? 0 };
  const code = ack.error.err_code ?? 0;
  if (WRONG_LAST_SEQUENCE.has(code)) return { kind: "refused" };
  if (FULL.has(code)) throw new AppError("queue_full", "the log is full", { retryAfterS: 5 });
  throw new AppError("broker_unavailable", `the broker refused a record (${code})`, { retryAfterS: 1 });
}

/** The newest record under `filter`, or null. Throws `broker_unavailable`. */
export async function readLast(bus: Bus, stream: string, filter: string, timeoutMs: number): Promise<LogRecord | null> {
  return getMessage(bus, stream, `{"last_by_subj":"${filter}"}`, timeoutMs);
}

/** The oldest record under `filter` from `sequence` on, or null. Throws `broker_unavailable`. */
export async function readNext(
  bus: Bus,
  stream: string,
  filter: string,
  sequence: number,
  timeoutMs: number,
): Promise<LogRecord | null> {
  return getMessage(bus, stream, `{"seq":${sequence},"next_by_subj":"${filter}"}`, timeoutMs);
}

async function getMessage(bus: Bus, stream: string, query: string, timeoutMs: number): Promise<LogRecord | null> {
  const reply = await bus.request(`$JS.API.STREAM.MSG.GET.${stream}`, query, { timeoutMs });
  const answer = JSON.parse(reply.text()) as {
    error?: ApiError;
    message?: { subject: string; seq: number; data?: string; time: string };
  };
  if (answer.message) {
    const { subject, seq, data, time } = answer.message;
    const text = Buffer.from(data ?? "", "base64").toString();
    return { subject, sequence: seq, text, storedAtMs: Date.parse(time) };
  }
  if (answer.error?.err_code === NO_MESSAGE) return null;
  throw new AppError("broker_unavailable", `the broker cannot read ${stream} (${answer.error?.err_code ?? 0})`, {
    retryAfterS: 1,
  });
}

/** Records a batch answer holds at most; there are as many batches as it takes. */
const RANGE_BATCH = 256;
const RANGE_MS_MAX = 5_000;

/**
 * All records under `filter` from `fromSequence` on, of a stream with direct access; with `countMax` about so many of the
 * oldest. For events only: a cluster's follower may answer, and then the newest are missing. Throws
 * `broker_unavailable`.
 */
export async function readRange(
  bus: Bus,
  stream: string,
  filter: string,
  fromSequence: number,
  countMax = Number.POSITIVE_INFINITY,
): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for (let next = fromSequence; ; ) {
    const batch = await readBatch(bus, stream, filter, next);
    records.push(...batch.records);
    if (batch.pending === 0 || batch.records.length === 0 || records.length >= countMax) return records;
    next = (batch.records.at(-1)?.sequence ?? next) + 1;
  }
}

/** One batched direct get (ADR-31): records, each with the count still to come, closed by an empty status message. */
function readBatch(
  bus: Bus,
  stream: string,
  filter: string,
  fromSequence: number,
): Promise<{ readonly records: LogRecord[]; readonly pending: number }> {
  return new Promise((resolve, reject) => {
    const records: LogRecord[] = [];
    let pending = 0;
    const inbox = bus.inbox();
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      subscription.unsubscribe();
      finish();
    };
    const late = new AppError("broker_unavailable", "the broker did not answer in time", { retryAfterS: 1 });
    const timer = setTimeout(() => settle(() => reject(late)), RANGE_MS_MAX);
    const subscription = bus.subscribe(inbox, (message) => {
      if (message.status === 503) return settle(() => reject(late));
      if (message.status !== 0) return settle(() => resolve({ records, pending }));
      pending = Number(message.header("Nats-Num-Pending")) || 0;
      records.push({
        subject: message.header("Nats-Subject"),
        sequence: Number(message.header("Nats-Sequence")),
        text: message.text(),
        storedAtMs: Date.parse(message.header("Nats-Time-Stamp")),
      });
    });
    const query = { batch: RANGE_BATCH, seq: fromSequence, next_by_subj: filter };
    bus.publish(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify(query), inbox);
  });
}
