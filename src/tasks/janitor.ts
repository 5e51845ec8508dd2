// Keeps the logs as large as they need to be: once a task has ended TASK_TTL ago its result and then its job are
// removed, oldest first, and its row stays as history. The order matters: while the job stands, its client_request_id is
// taken; it must not become free while an old result could be mistaken for a new task's. Also watches how full the logs
// are. Runs in every gateway; doing it twice does no harm.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import { parseJob, parseLater, streams } from "../bus/subjects.ts";
import { fullness } from "../bus/topology.ts";
import { deleteRecord, firstSequence, firstSince, purgeBelow, readOldest } from "../bus/trim.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { deleteHistory, endedBelow, markTrimmed } from "./store.ts";

export interface JanitorOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  readonly partitions: number;
  readonly taskTtlMs: number;
  readonly historyTtlMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Janitor {
  /** New work is refused: above 80% of a log, so that results find room. */
  isFull(): boolean;
  /** One round, at once. */
  sweep(): Promise<void>;
  stop(): Promise<void>;
}

const FULL_ABOVE = 0.8;
const FULLNESS_EVERY_MS = 1_000;
const SWEEP_EVERY_MS_MAX = 60_000;
/** Jobs looked at together. */
const READ_BATCH = 1_000;
/** Jobs deleted one by one in a round, behind an old task that has not ended; the next round goes on. */
const SINGLE_MAX = 20_000;

export function startJanitor(options: JanitorOptions): Janitor {
  const { bus, log, partitions } = options;
  let full = false;
  let measuring = false;
  const measure = async (): Promise<void> => {
    if (measuring || !bus.connected) return;
    measuring = true;
    try {
      const share = await fullness(bus, partitions);
      if (share > FULL_ABOVE && !full) log.error({ share }, "the logs are nearly full: new tasks are refused");
      full = share > FULL_ABOVE;
    } catch (error) {
      log.debug({ error: messageOf(error) }, "fullness is not known");
    } finally {
      measuring = false;
    }
  };
  let sweeping: Promise<void> | null = null;
  const sweep = (): Promise<void> => {
    sweeping ??= sweepAll(options)
      .catch((error) => log.warn({ error: messageOf(error) }, "logs are trimmed later"))
      .finally(() => {
        sweeping = null;
      });
    return sweeping;
  };
  void measure();
  const measureTimer = setInterval(() => void measure(), FULLNESS_EVERY_MS);
  // Often enough that what is kept too long is a small part of what is kept.
  const sweepTimer = setInterval(() => void sweep(), Math.min(SWEEP_EVERY_MS_MAX, options.taskTtlMs / 4));
  return {
    isFull: () => full,
    sweep,
    async stop() {
      clearInterval(measureTimer);
      clearInterval(sweepTimer);
      await sweeping;
    },
  };
}

async function sweepAll(options: JanitorOptions): Promise<void> {
  const { bus, sql, partitions, taskTtlMs, historyTtlMs, clock, log } = options;
  const beforeMs = clock.now() - taskTtlMs;
  for (let p = 0; p < partitions; p++) {
    // Results first. They stand in the order of their ends, so their age decides.
    const results = await firstSince(bus, streams.results(p), beforeMs);
    if (results > 0) await purgeBelow(bus, streams.results(p), results);
    const trimmed = await trimJobs(options, p, await firstSequence(bus, streams.results(p)), beforeMs);
    if (trimmed > 0) log.info({ partition: p, tasks: trimmed }, "ended tasks left the logs");
  }
  await deleteHistory(sql, clock.now() - historyTtlMs);
}

/**
 * Removes the jobs of tasks whose results are gone: one purge up to the oldest that stays, the others one by one.
 * Resolves to their number.
 */
async function trimJobs(
  { bus, sql, taskTtlMs }: JanitorOptions,
  partition: number,
  firstResult: number,
  beforeMs: number,
): Promise<number> {
  const stream = streams.jobs(partition);
  let trimmed = 0;
  let singly = 0;
  let anyKept = false;
  for (let from = 1; singly < SINGLE_MAX; ) {
    const records = await readOldest(bus, stream, from, READ_BATCH);
    // What was asked later than that cannot have ended before.
    const old = records.filter(({ storedAtMs }) => storedAtMs < beforeMs);
    const ids = old.map(({ subject }) => (parseJob(subject) ?? parseLater(subject))?.taskId ?? "");
    const ended = await endedBelow(sql, ids, firstResult);
    // A row may still be of an earlier task of the same id, which had ended TASK_TTL before this job was stored.
    const isEnded = (index: number): boolean =>
      (old[index]?.storedAtMs ?? 0) < (ended.get(ids[index] ?? "") ?? Number.NEGATIVE_INFINITY) + taskTtlMs / 2;
    const gone = ids.filter((_, index) => isEnded(index));
    await markTrimmed(sql, gone);
    const kept = old.findIndex((_, index) => !isEnded(index));
    const purged = anyKept ? 0 : kept < 0 ? old.length : kept;
    const last = old[purged - 1];
    if (last) await purgeBelow(bus, stream, last.sequence + 1);
    const single = old.filter((_, index) => index >= purged && isEnded(index));
    for (const { sequence } of single) await deleteRecord(bus, stream, sequence);
    trimmed += purged + single.length;
    singly += single.length;
    anyKept ||= kept >= 0;
    if (old.length < READ_BATCH) return trimmed;
    from = (old.at(-1)?.sequence ?? 0) + 1;
  }
  return trimmed;
}
