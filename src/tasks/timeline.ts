// The timeline of one task: what happened when, from its job, its events and its record. Asked for by the HTTP layer
// through the tasks. Events live for hours and may be lost in a power cut; the job and the record do not, so what they
// know is always there, and `complete` says whether anything is missing. Made from what is kept, never kept itself.
import type { Bus } from "../bus/connection.ts";
import { type LogRecord, readRange } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import { rfc3339 } from "../clock.ts";
import type { Reader, Reading } from "./reader.ts";
import { viewOf } from "./reader.ts";
import {
  type EventRecord,
  type FinishedTask,
  isNext,
  type RetryData,
  readEventRecord,
  type StartedData,
  type TaskError,
  type Timing,
} from "./records.ts";
import type { Status } from "./task.ts";
import type { Owner } from "./tasks.ts";

type Actor = FinishedTask["actor"];

/** One thing that happened. `at` is RFC 3339; fields that the kind does not have are absent. */
export interface TimelineEntry {
  readonly at: string;
  readonly event: "queued" | "started" | "output" | "retry" | "handed_back" | "cancel_requested" | "ended";
  readonly attempt?: number;
  readonly actor?: Actor;
  /** Of `ended`. */
  readonly status?: Status;
  readonly error?: TaskError;
  /** Of `retry`: milliseconds until the next attempt may begin. */
  readonly retry_in_ms?: number;
  /** Of `retry`: since then the attempt waits for a model server, and does not count. */
  readonly waiting_since?: string;
  /** Of `ended`: milliseconds of each stage of the last attempt; null where it did not run. */
  readonly timing?: Timing | null;
  /** Of `output`, which sums up an attempt: its last progress, and how many events it sent. */
  readonly progress?: unknown;
  readonly progress_events?: number;
  readonly delta_events?: number;
}

export interface Timeline {
  readonly task_id: string;
  readonly status: Status;
  /** False where events have aged out, were lost, or were too many to be read. */
  readonly complete: boolean;
  readonly entries: readonly TimelineEntry[];
}

/** A model that streams tokens sends one event each: beyond so many the rest is left to the event stream. */
const EVENTS_MAX = 5_000;

/** Throws `task_not_found`, also for another key's task; `broker_unavailable`. */
export async function readTimeline(bus: Bus, reader: Reader, taskId: string, owner: Owner): Promise<Timeline> {
  // The state comes first: events that are younger than it do no harm, an end without its events would.
  const reading = await reader.read(taskId, owner);
  return timelineOf(taskId, reading, await readRange(bus, streams.events, subjects.events(taskId), 1, EVENTS_MAX));
}

/** Pure. `stored` are the task's events, oldest first. */
export function timelineOf(taskId: string, reading: Reading, stored: readonly LogRecord[]): Timeline {
  const view = JSON.parse(viewOf(taskId, reading).json) as FinishedTask & { readonly cancel_requested_at?: string };
  const ended = reading.kind === "ended";
  // The id may have belonged to an earlier task, whose events can still be there.
  const createdMs = Date.parse(view.created_at);
  const events = stored.flatMap((record) => {
    const event = record.storedAtMs >= createdMs - CLOCKS_APART_MS ? readEventRecord(record.text) : null;
    return event ? [{ ...event, atMs: record.storedAtMs }] : [];
  });
  const entries = events.reduce<TimelineEntry[]>(withEvent, [{ at: view.created_at, event: "queued" }]);
  const lastStart = entries.some((entry) => entry.event === "started" && entry.attempt === view.attempt);
  if (ended && view.started_at && !lastStart) {
    entries.push({ at: view.started_at, event: "started", attempt: view.attempt, actor: view.actor });
  }
  if (view.cancel_requested_at) entries.push({ at: view.cancel_requested_at, event: "cancel_requested" });
  entries.sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  if (ended) {
    const { finished_at: at, attempt, status, error, timing } = view;
    entries.push({ at, event: "ended", attempt, status, ...(error && { error }), timing });
  }
  const complete = stored.length < EVENTS_MAX && isWhole(events, reading);
  return { task_id: taskId, status: view.status, complete, entries };
}

/** The broker stores an event when its clock says so, the gateway has the time of creation from its own. */
const CLOCKS_APART_MS = 5_000;

interface StoredEvent extends EventRecord {
  readonly atMs: number;
}

/** Appends an event; progress and deltas are summed up in one entry an attempt. */
function withEvent(entries: TimelineEntry[], event: StoredEvent): TimelineEntry[] {
  const at = rfc3339(event.atMs);
  const { attempt } = event;
  if (event.event === "STARTED") {
    const { actor, started_at } = event.data as StartedData;
    entries.push({ at: started_at, event: "started", attempt, actor });
  } else if (event.event === "RETRY") {
    const { error, retry_in_ms, waiting_since } = event.data as RetryData;
    entries.push({ at, event: "retry", attempt, error, retry_in_ms, ...(waiting_since && { waiting_since }) });
  } else if (event.uncounted) entries.push({ at, event: "handed_back", attempt });
  else if (event.event === "progress" || event.event === "delta") {
    const index = entries.findLastIndex((entry) => entry.event === "output" && entry.attempt === attempt);
    const before = entries[index] ?? { at, event: "output", attempt, progress_events: 0, delta_events: 0 };
    const isProgress = event.event === "progress";
    const after: TimelineEntry = {
      ...before,
      at,
      ...(isProgress && { progress: event.data }),
      progress_events: (before.progress_events ?? 0) + (isProgress ? 1 : 0),
      delta_events: (before.delta_events ?? 0) + (isProgress ? 0 : 1),
    };
    if (index >= 0) entries.splice(index, 1);
    entries.push(after);
  }
  return entries;
}

/** Whether no event is missing, and the end follows the last one. */
function isWhole(events: readonly EventRecord[], reading: Reading): boolean {
  let at = { attempt: 0, n: 0 };
  for (const event of events) {
    if (!isNext(at, event)) return false;
    at = event;
  }
  if (reading.kind === "open") return true;
  const [attempt = 0, n = 0] = reading.ended.eventId.split(".").map(Number);
  return isNext(at, { attempt, n });
}
