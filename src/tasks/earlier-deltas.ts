// What the earlier attempts of a task have sent to its watchers, so that the next one can go on from there instead of
// repeating it. Called by actors before an attempt that has a past. It is all or nothing: where one event may be
// missing the answer is null, since who goes on from a text with a hole, or repeats one that is there, spoils it unseen.
import type { Bus } from "../bus/connection.ts";
import { type LogRecord, readLast, readNext, readRange } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import { type EventRecord, isNext, readEventRecord } from "./records.ts";

/** Half an hour of deltas at twenty a second; a runner that sent more than that starts again. */
const BYTES_MAX = 4 * 1024 * 1024;
/** Records that a follower may lag behind its leader by. */
const LAG_MAX = 64;
const PAGE = 256;
const READ_MS_MAX = 2_000;
/** The broker stores an event when its clock says so, the gateway has the time of creation from its own. */
const CLOCKS_APART_MS = 5_000;

/**
 * The deltas since the last reset, oldest first; null where it cannot be told what watchers have. `createdMs` is the
 * task's: older events under its id are of another task. Throws `broker_unavailable`.
 */
export async function readEarlierDeltas(
  bus: Bus,
  taskId: string,
  createdMs: number,
): Promise<readonly unknown[] | null> {
  const records = await readAll(bus, subjects.events(taskId));
  return records && deltasOf(records.filter(({ storedAtMs }) => storedAtMs >= createdMs - CLOCKS_APART_MS));
}

/** Null where it is too much. In bulk from whichever server answers, and to the end from the leader. */
async function readAll(bus: Bus, subject: string): Promise<LogRecord[] | null> {
  const last = await readLast(bus, streams.events, subject, READ_MS_MAX);
  const records: LogRecord[] = [];
  let sizeBytes = 0;
  for (let next = 1; last && next <= last.sequence; next = (records.at(-1)?.sequence ?? 0) + 1) {
    const page = await readRange(bus, streams.events, subject, next, PAGE);
    records.push(...page);
    sizeBytes = page.reduce((sum, { text }) => sum + text.length, sizeBytes);
    if (sizeBytes > BYTES_MAX) return null;
    if (page.length === 0) break;
  }
  for (let behind = 0; last && (records.at(-1)?.sequence ?? 0) < last.sequence; behind++) {
    const from = (records.at(-1)?.sequence ?? 0) + 1;
    const record = await readNext(bus, streams.events, subject, from, READ_MS_MAX);
    if (!record || behind === LAG_MAX) return null;
    records.push(record);
  }
  return records;
}

/** Pure. An event that comes after newer ones is of an attempt that was given up: watchers never saw it in order. */
export function deltasOf(records: readonly Pick<LogRecord, "text">[]): readonly unknown[] | null {
  let deltas: unknown[] | null = [];
  let at: Pick<EventRecord, "attempt" | "n"> = { attempt: 0, n: 0 };
  for (const { text } of records) {
    const event = readEventRecord(text);
    if (!event || isBefore(event, at)) deltas = null;
    else {
      if (event.event === "reset") deltas = [];
      else if (!isNext(at, event)) deltas = null;
      else if (event.event === "delta") deltas?.push(event.data);
      at = event;
    }
  }
  return deltas;
}

const isBefore = (a: Pick<EventRecord, "attempt" | "n">, b: Pick<EventRecord, "attempt" | "n">): boolean =>
  a.attempt < b.attempt || (a.attempt === b.attempt && a.n <= b.n);
