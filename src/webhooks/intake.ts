// Finds the ends that somebody wants to be told of, in the logs of results, and makes a row of each. It reads headers
// alone, in batches, and only of what the gateway has not heard and cleared already, so that a task without a callback
// costs nothing; from a cursor that moves in one transaction with the rows: whatever is killed, an end is read again until its row
// stands, and a row that stands is not made twice. Runs beside the deliverer; it never sends anything.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import { openScan, type Scan, type ScannedRecord } from "../bus/scan.ts";
import { parseResult, streams } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import { partitionOf } from "../ids.ts";
import type { Log } from "../log.ts";
import { CALLBACK_HEADER } from "../tasks/callback.ts";
import { readResult } from "../tasks/commit.ts";
import { readJob } from "../tasks/read-job.ts";
import { type JobRecord, parseJobRecord, statusOf } from "../tasks/records.ts";
import { webhookBody } from "./body.ts";
import type { ClearedRange } from "./cleared.ts";
import { loadCursors, type NewDelivery, takeIn } from "./store.ts";

export interface IntakeOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  readonly partitions: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Called when new rows stand. */
  readonly onRows: () => void;
}

export interface Intake {
  /** The task has ended: looks for it at once. */
  ended(taskId: string): void;
  /** Nobody wants to be told of what stands in these: it need not be read. */
  cleared(ranges: readonly ClearedRange[]): void;
  stop(): Promise<void>;
}

/** Ends whose headers are read at once. */
const SCAN_MAX = 500;
/** Rows of one transaction, each with up to 64 KiB of result: 16 MiB at most. */
const BATCH_MAX = 256;
/** A log of which nothing was cleared for so long is read: the net for words that were lost. */
const LOOK_AFTER_MS = 3_000;
const LOOK_EVERY_MS = 1_000;
/** Such a cursor is written so often: it is an fsync. */
const CURSOR_EVERY_MS = 5_000;
const READ_MS_MAX = 5_000;

/** One log of results, and how far it has been looked through. */
interface Place {
  readonly stream: string;
  readonly scan: Scan;
  seen: number;
  /** What the cursor in SQL says, and since when. */
  written: number;
  writtenAtMs: number;
  /** When a range of it was last cleared. */
  clearedAtMs: number;
  looking: Promise<void> | null;
  /** To be looked at once more: something came while it was. */
  again: boolean;
}

export async function startIntake(options: IntakeOptions): Promise<Intake> {
  const { bus, sql, partitions, clock, log } = options;
  const cursors = await loadCursors(sql);
  const places = Array.from({ length: partitions }, (_, p): Place => {
    const stream = streams.results(p);
    const cursor = cursors.get(stream) ?? 0;
    const scan = openScan(bus, stream, CALLBACK_HEADER);
    const writtenAtMs = clock.monotonicMs();
    const clearedAtMs = Number.NEGATIVE_INFINITY;
    return { stream, scan, seen: cursor, written: cursor, writtenAtMs, clearedAtMs, looking: null, again: false };
  });
  let stopped = false;

  const look = (place: Place): void => {
    if (stopped || !bus.connected) return;
    place.again = true;
    place.looking ??= (async () => {
      while (place.again && !stopped) {
        place.again = false;
        if (await lookOnce(options, place)) place.again = true;
      }
    })()
      .catch((error) => log.warn({ error: messageOf(error) }, "webhooks are taken in later"))
      .finally(() => {
        place.looking = null;
      });
  };
  const net = setInterval(() => {
    for (const place of places) if (clock.monotonicMs() - place.clearedAtMs >= LOOK_AFTER_MS) look(place);
  }, LOOK_EVERY_MS);
  places.forEach(look);
  return {
    ended(taskId) {
      const place = places[partitionOf(taskId, partitions)];
      if (place) look(place);
    },
    cleared(ranges) {
      for (const { partition, from, to } of ranges) {
        const place = places[partition];
        if (!place) continue;
        place.clearedAtMs = clock.monotonicMs();
        // A look that is under way says where it ends; the next range takes up from there.
        if (place.looking === null && place.seen + 1 >= from && place.seen < to) place.seen = to;
        if (place.seen < to || isOld(place, clock)) look(place);
      }
    },
    async stop() {
      stopped = true;
      clearInterval(net);
      await Promise.all(places.map((place) => place.looking));
    },
  };
}

/** Takes in what one batch holds; true when there is more. */
async function lookOnce(options: IntakeOptions, place: Place): Promise<boolean> {
  const { clock } = options;
  const { records, nextSequence, more } = await place.scan.read(place.seen + 1, SCAN_MAX);
  const asked = records.filter(({ header }) => header !== "");
  for (let from = 0; from < asked.length; from += BATCH_MAX) {
    const part = asked.slice(from, from + BATCH_MAX);
    await write(options, place, part, part.at(-1)?.sequence ?? place.seen);
  }
  place.seen = nextSequence - 1;
  const moved = place.seen !== place.written;
  if (moved && (isOld(place, clock) || asked.length > 0)) await write(options, place, [], place.seen);
  return more;
}

/** What SQL says of how far the log was looked through is to be written again. */
const isOld = (place: Place, clock: Clock): boolean => clock.monotonicMs() - place.writtenAtMs >= CURSOR_EVERY_MS;

/** Rows of these ends, and the cursor behind them. */
async function write(
  options: IntakeOptions,
  place: Place,
  ends: readonly ScannedRecord[],
  cursor: number,
): Promise<void> {
  const { sql, clock, onRows } = options;
  const deliveries = await Promise.all(
    ends.map(({ subject }) => {
      const result = parseResult(subject);
      return result && statusOf(result.status) ? deliveryOf(options, result.taskId) : null;
    }),
  );
  const rows = deliveries.filter((delivery) => delivery !== null);
  await takeIn(sql, rows, new Map([[place.stream, cursor]]), clock.now());
  place.seen = cursor;
  place.written = cursor;
  place.writtenAtMs = clock.monotonicMs();
  if (rows.length > 0) onRows();
}

/** What is to be sent when the task has ended; null where the logs no longer say it. */
async function deliveryOf({ bus, partitions, log }: IntakeOptions, taskId: string): Promise<NewDelivery | null> {
  const [stored, ended] = await Promise.all([
    readJob(bus, partitions, taskId, READ_MS_MAX),
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
