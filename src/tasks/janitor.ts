// Keeps the logs as large as they need to be: once a task has ended TASK_TTL ago its result and then its job are
// purged, oldest first, and its row stays as history. The order matters: while the job stands, its client_request_id is
// taken; it must not become free while an old result could be mistaken for a new task's. Also watches how full the logs
// are. Runs in every gateway; doing it twice does no harm.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import { parseJob, streams } from "../bus/subjects.ts";
import { fullness } from "../bus/topology.ts";
import { headTimes, purgeBelow, readHead } from "../bus/trim.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { deleteHistory, endedBefore, markTrimmed } from "./store.ts";

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
const HEAD_BATCH = 1_000;

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

async function sweepAll({ bus, sql, partitions, taskTtlMs, historyTtlMs, clock, log }: JanitorOptions): Promise<void> {
  const beforeMs = clock.now() - taskTtlMs;
  for (let p = 0; p < partitions; p++) {
    // Results first. They stand in the order of their ends, so their age decides.
    const results = await headTimes(bus, streams.results(p), beforeMs);
    if (results > 0) await purgeBelow(bus, streams.results(p), results);
    let trimmed = 0;
    for (;;) {
      const head = await readHead(bus, streams.jobs(p), HEAD_BATCH);
      const ids = head.map(({ subject }) => parseJob(subject)?.taskId ?? "");
      const ended = await endedBefore(sql, ids, beforeMs);
      const kept = ids.findIndex((id) => !ended.has(id));
      const count = kept < 0 ? ids.length : kept;
      const last = head[count - 1];
      if (!last) break;
      await markTrimmed(sql, ids.slice(0, count));
      await purgeBelow(bus, streams.jobs(p), last.sequence + 1);
      trimmed += count;
      if (kept >= 0 || head.length < HEAD_BATCH) break;
    }
    if (trimmed > 0) log.info({ partition: p, tasks: trimmed }, "ended tasks left the logs");
  }
  await deleteHistory(sql, clock.now() - historyTtlMs);
}
