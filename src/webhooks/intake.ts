// Finds the ends that somebody wants to be told of, in the logs of results, and makes a row of each. It reads headers
// alone, so that a task without a callback costs next to nothing, from a cursor that moves in one transaction with the
// rows: whatever is killed, an end is read again until its row stands, and a row that stands is not made twice. Runs
// beside the deliverer; it never sends anything.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import { type Follower, follow } from "../bus/follow.ts";
import { readLast } from "../bus/log.ts";
import { parseResult, streams, subjects } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import { partitionOf } from "../ids.ts";
import type { Log } from "../log.ts";
import { CALLBACK_HEADER } from "../tasks/callback.ts";
import { readResult } from "../tasks/commit.ts";
import { type JobRecord, parseJobRecord, statusOf } from "../tasks/records.ts";
import { webhookBody } from "./body.ts";
import { loadCursors, type NewDelivery, takeIn } from "./store.ts";

export interface IntakeOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  readonly partitions: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Called when new rows stand. */
  readonly onRows: () => void;
  /** Ends found and not yet rows, by stream; beyond it the stream is left alone until they are. Default 10,000. */
  readonly waitingMax?: number;
}

export interface Intake {
  stop(): Promise<void>;
}

/** Rows of one transaction, each with up to 64 KiB of result: 16 MiB at most. */
const BATCH_MAX = 256;
const WAITING_MAX = 10_000;
/** A cursor that moved over ends nobody asked for is written so often: it is an fsync. */
const CURSOR_EVERY_MS = 5_000;
const RETRY_MS = 1_000;
const READ_MS_MAX = 5_000;

interface Found {
  readonly taskId: string;
  readonly sequence: number;
}

/** One log of results: what was found in it, and how far it has been looked through. */
interface Place {
  readonly stream: string;
  readonly waiting: Found[];
  seen: number;
  /** What the cursor in SQL says. */
  written: number;
  follower: Follower | null;
  /** A follower is being made. */
  opening: boolean;
  /** Not followed, because too much waits or no follower could be made: read on from `seen` when nothing waits. */
  cut: boolean;
}

export async function startIntake(options: IntakeOptions): Promise<Intake> {
  const { bus, sql, partitions, log, waitingMax = WAITING_MAX } = options;
  const cursors = await loadCursors(sql);
  const places = Array.from({ length: partitions }, (_, p): Place => {
    const stream = streams.results(p);
    const cursor = cursors.get(stream) ?? 0;
    return { stream, waiting: [], seen: cursor, written: cursor, follower: null, opening: false, cut: false };
  });
  let stopped = false;
  let again = false;
  let writing: Promise<void> | null = null;
  let retry: ReturnType<typeof setTimeout> | null = null;

  const open = (place: Place): Promise<Follower> =>
    follow(bus, {
      stream: place.stream,
      fromSequence: place.seen + 1,
      headersOnly: true,
      log,
      onRecord(record) {
        if (place.cut) return;
        if (place.waiting.length >= waitingMax) return leave(place);
        place.seen = record.sequence;
        if (record.header(CALLBACK_HEADER) === "") return;
        const result = parseResult(record.subject);
        if (!result || !statusOf(result.status)) return;
        place.waiting.push({ taskId: result.taskId, sequence: record.sequence });
        write();
      },
    });
  const read = async (place: Place): Promise<void> => {
    place.opening = true;
    place.cut = false;
    place.follower = null;
    try {
      place.follower = await open(place);
    } catch (error) {
      place.cut = true;
      throw error;
    } finally {
      place.opening = false;
    }
    if (stopped) leave(place);
    else if (place.cut) {
      leave(place);
      write();
    }
  };
  const leave = (place: Place): void => {
    place.cut = true;
    place.follower?.stop();
  };

  const write = (): void => {
    again = true;
    if (stopped || retry) return;
    writing ??= writeAll()
      .catch((error) => {
        log.warn({ error: messageOf(error) }, "webhooks are taken in later");
        retry = setTimeout(() => {
          retry = null;
          write();
        }, RETRY_MS);
      })
      .finally(() => {
        writing = null;
      });
  };
  const writeAll = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve)); // what is heard in this turn goes along
    while (again && !stopped) {
      again = false;
      for (const place of places) {
        if (place.waiting.length > 0 || place.seen !== place.written) await writeBatch(options, place);
        again ||= place.waiting.length > 0;
        if (place.cut && !place.opening && place.waiting.length === 0 && !stopped) await read(place);
      }
    }
  };

  const settleCursors = setInterval(write, CURSOR_EVERY_MS);
  const stop = async (): Promise<void> => {
    stopped = true;
    clearInterval(settleCursors);
    if (retry) clearTimeout(retry);
    places.forEach(leave);
    await writing;
  };
  try {
    await Promise.all(places.map(read));
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop };
}

/** The next rows of a stream and its cursor behind them. */
async function writeBatch(options: IntakeOptions, place: Place): Promise<void> {
  const { sql, clock, onRows } = options;
  const batch = place.waiting.slice(0, BATCH_MAX);
  const isAll = batch.length === place.waiting.length;
  const cursor = isAll ? place.seen : (batch.at(-1)?.sequence ?? place.written);
  const deliveries = await Promise.all(batch.map(({ taskId }) => deliveryOf(options, taskId)));
  const rows = deliveries.filter((delivery) => delivery !== null);
  await takeIn(sql, rows, new Map([[place.stream, cursor]]), clock.now());
  place.waiting.splice(0, batch.length);
  place.written = cursor;
  if (rows.length > 0) onRows();
}

/** What is to be sent when the task has ended; null where the logs no longer say it. */
async function deliveryOf({ bus, partitions, log }: IntakeOptions, taskId: string): Promise<NewDelivery | null> {
  const partition = partitionOf(taskId, partitions);
  const [stored, ended] = await Promise.all([
    readLast(bus, streams.jobs(partition), subjects.anyJob(partition, taskId), READ_MS_MAX),
    readResult(bus, partitions, taskId),
  ]);
  const job = stored && readJobRecord(stored.text);
  if (!job?.callback || !ended || !statusOf(ended.record.token)) {
    log.warn(
      { task_id: taskId },
      "the webhook of an ended task cannot be made: the logs no longer hold it, or in an unknown form",
    );
    return null;
  }
  const { timeMs, dataJson } = ended.record;
  return {
    id: webhookId(taskId, job.created, "completed"),
    taskId,
    keyId: job.key,
    event: "task.completed",
    url: job.callback.url,
    body: webhookBody("task.completed", timeMs, dataJson),
  };
}

/** Null for a form that this version does not know: it must not hold up the others. */
function readJobRecord(text: string): JobRecord | null {
  try {
    return parseJobRecord(text);
  } catch {
    return null; // said by the caller
  }
}

/**
 * Tells a receiver what it has seen: the same for every attempt at the same event. With the time of creation, because a
 * client_request_id may stand for another task once it is free again.
 */
const webhookId = (taskId: string, createdMs: number, event: string): string =>
  `${taskId}_${createdMs.toString(36)}_${event}`;
