// The events of one task, from the log and then live, in order and without repeats: what a client's event stream shows.
// Works on any gateway, because the log of events and the log of results are all it reads. After a loss of events (a
// power cut, or their age) it says so by a `reset` with a snapshot; the end always comes, from the result record.
import type { Bus, BusMessage } from "../bus/connection.ts";
import { readRange } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import type { EndedTask, Feed } from "./feed.ts";
import type { Reader, Reading } from "./reader.ts";
import { viewOf } from "./reader.ts";
import { type EventRecord, type FinishedTask, isNext, readEventRecord } from "./records.ts";
import { initial } from "./task.ts";
import type { Owner, TaskEvent } from "./tasks.ts";

export interface EventStreamOptions {
  readonly bus: Bus;
  readonly feed: Feed;
  readonly reader: Reader;
}

/** Live events that wait for a slow client; beyond it they are dropped and read again from the log. */
const WAITING_MAX = 1_000;
/** Events that are read from the log at once. */
const PAGE = 1_000;
/** How often the logs are asked for an end that was not heard. */
const LOOK_EVERY_MS = 10_000;

interface Position {
  readonly attempt: number;
  readonly n: number;
}

const before = (a: Position, b: Position): boolean => a.attempt < b.attempt || (a.attempt === b.attempt && a.n < b.n);
const idOf = ({ attempt, n }: Position): string => `${attempt}.${n}`;

function parseId(id: string): Position {
  const [attempt, n] = id.split(".").map(Number);
  return { attempt: attempt ?? 0, n: n ?? 0 };
}

/** Null where `lastEventId` is the terminal event's. Throws `task_not_found`, `broker_unavailable`. */
export async function taskEvents(
  options: EventStreamOptions,
  taskId: string,
  owner: Owner,
  lastEventId: string | null,
  signal: AbortSignal,
): Promise<AsyncIterable<TaskEvent> | null> {
  // Listening comes before reading: what happens in between is heard.
  const live = listen(options, taskId, signal);
  try {
    const reading = await options.reader.read(taskId, owner);
    if (reading.kind === "ended") {
      live.hear(reading.ended);
      if (lastEventId !== null && !before(parseId(lastEventId), parseId(reading.ended.eventId))) {
        live.close();
        return null;
      }
    }
    return stream(options, taskId, owner, lastEventId, reading, live, signal);
  } catch (error) {
    live.close();
    throw error;
  }
}

async function* stream(
  options: EventStreamOptions,
  taskId: string,
  owner: Owner,
  lastEventId: string | null,
  reading: Reading,
  live: Live,
  signal: AbortSignal,
): AsyncGenerator<TaskEvent> {
  const { reader } = options;
  const playback = createPlayback(options, taskId, owner, lastEventId, live);
  try {
    if (lastEventId === null) yield { id: "0.0", event: "PENDING", data: pendingJson(taskId, reading) };
    yield* playback.catchUp([]);
    while (!signal.aborted && !live.ended) {
      const heard = live.take();
      if (heard === null) {
        if (await live.more(LOOK_EVERY_MS)) continue;
        const again = await reader.read(taskId, owner);
        if (again.kind === "ended") live.hear(again.ended);
      } else if (heard === "overflow") yield* playback.catchUp([]);
      else if (playback.follows(heard)) yield* playback.sendHeard([heard]);
      else yield* playback.catchUp([heard]); // which may not be stored yet
    }
    if (signal.aborted || !live.ended) return;
    yield* playback.rest(); // what was published before the end and not taken yet
    yield* playback.sendHeard(live.rest());
    const { eventId, status, dataJson } = live.ended;
    yield { id: eventId, event: status, data: dataJson };
  } finally {
    live.close();
  }
}

/** Where a client stands in the events of a task, and what brings it forward. */
interface Playback {
  /** Whether nothing is missing between what the client has and this. */
  follows(heard: EventRecord): boolean;
  /** Those that the client does not have. */
  sendHeard(records: readonly EventRecord[]): Generator<TaskEvent>;
  /** What the log holds and was not read yet. */
  rest(): AsyncGenerator<TaskEvent>;
  /** The same and then `heard`; where some of it is lost a reset, with the task as it is now, stands for the rest. */
  catchUp(heard: readonly EventRecord[]): AsyncGenerator<TaskEvent>;
}

function createPlayback(
  { bus, reader }: EventStreamOptions,
  taskId: string,
  owner: Owner,
  lastEventId: string | null,
  live: Live,
): Playback {
  let at: Position = lastEventId === null ? { attempt: 0, n: 0 } : parseId(lastEventId);
  let sequence = 1;
  /** After a reset that found no event: which one comes next is not known. */
  let adrift = false;
  /** The log is known to hold what the client has; before the first attempt that is nothing. */
  let known = at.attempt === 0;
  /** Where the client says that it stands has been held against the log. */
  let isChecked = false;

  /** A page at a time, and the next one when the client has taken it: a task may have said more than memory holds. */
  const pages = async function* (): AsyncGenerator<EventRecord[]> {
    for (;;) {
      const stored = await readRange(bus, streams.events, subjects.events(taskId), sequence, PAGE);
      sequence = (stored.at(-1)?.sequence ?? sequence - 1) + 1;
      yield stored.flatMap((record) => readEventRecord(record.text) ?? []);
      if (stored.length < PAGE) return;
    }
  };
  const send = function* (records: readonly EventRecord[]): Generator<TaskEvent> {
    for (const record of records) {
      if (!before(at, record)) continue;
      at = { attempt: record.attempt, n: record.n };
      adrift = false;
      yield { id: idOf(at), event: record.event, data: JSON.stringify(record.data) };
    }
  };
  const sendHeard = function* (records: readonly EventRecord[]): Generator<TaskEvent> {
    for (const event of send(records)) {
      known = false; // it may not be stored yet
      yield event;
    }
  };
  return {
    sendHeard,
    follows: (heard) => adrift || !hasGap(at, known, [heard]),
    async *rest() {
      for await (const page of pages()) yield* send(page);
    },
    async *catchUp(heard) {
      let newest: EventRecord | undefined;
      let lost = false;
      const look = (records: readonly EventRecord[]): void => {
        newest = newestOf(newest ? [newest, ...records] : records);
        lost ||= !live.ended && hasGap(at, known, records);
      };
      for await (const page of pages()) {
        look(page);
        known ||= page.some((record) => !before(record, at));
        if (!lost) yield* send(page);
      }
      look(heard);
      if (!lost) yield* sendHeard(heard);
      if (!isChecked) lost ||= newest ? before(newest, at) : at.n > 0;
      isChecked = true;
      if (!lost || live.ended) return;
      adrift = newest === undefined;
      known = true;
      if (newest) at = { attempt: newest.attempt, n: newest.n }; // also backwards: what the log lost is counted anew
      yield { id: idOf(at), event: "reset", data: viewOf(taskId, await reader.read(taskId, owner)).json };
    },
  };
}

/** The last one is not always it: an attempt that was given up may still say something. */
const newestOf = (records: readonly EventRecord[]): EventRecord | undefined =>
  records.reduce<EventRecord | undefined>((newest, one) => (newest && before(one, newest) ? newest : one), undefined);

/**
 * True where what comes after `at` is not whole. The next attempt may go on from what the log holds of the one before:
 * it follows `at` only where the log holds that too (`known`), and a client who has more is not to get it twice.
 */
function hasGap(at: Position, known: boolean, records: readonly EventRecord[]): boolean {
  let last = at;
  let isKnown = known;
  for (const record of records) {
    if (before(last, record)) {
      if (!isNext(last, record) || (record.attempt !== last.attempt && !isKnown)) return true;
      last = record;
    }
    isKnown ||= !before(record, last);
  }
  return false;
}

/** The same whenever it is asked for, but for the times of its start, which a task has no longer when it has ended. */
function pendingJson(taskId: string, reading: Reading): string {
  if (reading.kind === "open") {
    return viewOf(taskId, { kind: "open", open: { ...reading.open, last: null, cancelRequestedMs: 0 } }).json;
  }
  const { model, priority, created_at, retry_of, metadata } = JSON.parse(reading.ended.dataJson) as FinishedTask;
  const { status, attempt } = initial;
  const task = { task_id: taskId, status, model, priority, attempt, created_at, started_at: null, retry_of, metadata };
  return JSON.stringify(task);
}

interface Live {
  readonly ended: EndedTask | null;
  hear(ended: EndedTask): void;
  /** The next live event, null for none, `overflow` where some were dropped. */
  take(): EventRecord | "overflow" | null;
  /** All that waits. */
  rest(): EventRecord[];
  /** True when there is something to take or the end was heard; false after `waitMs` or when the signal aborts. */
  more(waitMs: number): Promise<boolean>;
  close(): void;
}

function listen({ bus, feed }: EventStreamOptions, taskId: string, signal: AbortSignal): Live {
  const waiting: EventRecord[] = [];
  let overflow = false;
  let ended: EndedTask | null = null;
  let wake: ((more: boolean) => void) | null = null;
  const notify = (): void => wake?.(true);
  const subscription = bus.subscribe(subjects.events(taskId), (message: BusMessage) => {
    if (waiting.length >= WAITING_MAX) overflow = true;
    else {
      const record = readEventRecord(message.text());
      if (record) waiting.push(record);
    }
    notify();
  });
  const hear = (heard: EndedTask): void => {
    ended = heard;
    notify();
  };
  const takeBack = feed.onEnd(taskId, hear);
  const close = (): void => {
    signal.removeEventListener("abort", close);
    subscription.unsubscribe();
    takeBack();
    wake?.(false);
  };
  // Not only when the events are read to their end: who has left may never ask for the next one.
  signal.addEventListener("abort", close);
  if (signal.aborted) close();
  return {
    get ended() {
      return ended;
    },
    hear,
    take() {
      if (!overflow) return waiting.shift() ?? null;
      overflow = false;
      waiting.length = 0;
      return "overflow";
    },
    rest: () => waiting.splice(0),
    more(waitMs) {
      if (ended || overflow || waiting.length > 0) return Promise.resolve(true);
      if (signal.aborted) return Promise.resolve(false);
      return new Promise((resolve) => {
        const timer = setTimeout(() => wake?.(false), waitMs);
        wake = (more) => {
          clearTimeout(timer);
          wake = null;
          resolve(more);
        };
      });
    },
    close,
  };
}
