// Cancels tasks. The marker in the log of results is the decision: from then on no SUCCESS can be stored. Whoever holds
// the task stops and writes CANCELLED after it; with no holder this gateway writes it, once every live actor has said
// that it does not hold it. A cancel that nobody could settle (an actor that gives no answer) is tried again.
import type { Bus } from "../bus/connection.ts";
import type { Clock } from "../clock.ts";
import { rfc3339 } from "../clock.ts";
import { AppError, messageOf } from "../errors.ts";
import { randomToken } from "../ids.ts";
import type { Log } from "../log.ts";
import { type Commit, commitResult, readResult } from "./commit.ts";
import { control } from "./holders.ts";
import type { TaskMetrics } from "./metrics.ts";
import type { MarkerData } from "./projection.ts";
import type { OpenTask, Reader } from "./reader.ts";
import { stateOf } from "./reader.ts";
import type { CancelRequested, Owner } from "./tasks.ts";
import { unheldEnd } from "./unheld.ts";

export interface CancelOptions {
  readonly bus: Bus;
  readonly partitions: number;
  readonly reader: Reader;
  readonly clock: Clock;
  readonly log: Log;
  /** Actors known to live. */
  readonly liveActors: () => number;
  readonly metrics: TaskMetrics;
}

export interface Canceller {
  cancel(taskId: string, owner: Owner): Promise<CancelRequested>;
  /** A marker was heard, and no end of its task yet. */
  opened(taskId: string, keyId: string): void;
  /** The task has ended. */
  closed(taskId: string): void;
  stop(): Promise<void>;
}

const MARK_MS_MAX = 5_000;
/** An actor has this long to write the end itself, and one that gave no answer to answer. */
const SETTLE_EVERY_MS = 2_000;
/** Unsettled cancels that are tried again; beyond it the queue settles them, when the job is delivered. */
const OPEN_MAX = 10_000;

export function createCanceller(options: CancelOptions): Canceller {
  const { bus, partitions, reader, clock, log } = options;
  const open = new Map<string, { readonly keyId: string; sinceMs: number }>();
  const stopping = new AbortController();
  let settling: Promise<unknown> = Promise.resolve();

  /** Tells the holder; ends the task where there is none. */
  const settle = async (taskId: string, task: OpenTask): Promise<void> => {
    const expected = options.liveActors();
    const request = { cancel: task.markerSequence, from: "gateway" };
    const answers = expected > 0 ? await control(bus, taskId, request, expected) : { held: 0, free: 0 };
    if (answers.held > 0 || answers.free < expected) return; // the holder ends it, or somebody gave no answer
    const commit = unheldEnd(taskId, task, { status: "CANCELLED" }, clock.now());
    const outcome = await commitResult(bus, partitions, commit, {
      signal: AbortSignal.any([stopping.signal, AbortSignal.timeout(MARK_MS_MAX)]),
    });
    if (outcome.kind !== "won") return;
    const { model, priority } = task.job;
    options.metrics.ended(model, priority, "CANCELLED");
    log.info({ task_id: taskId, model, status: "CANCELLED" }, "task ended");
  };

  const settleOld = async (): Promise<void> => {
    const now = clock.monotonicMs();
    for (const [taskId, entry] of open) {
      if (now - entry.sinceMs < SETTLE_EVERY_MS || !bus.connected) continue;
      entry.sinceMs = now;
      const reading = await reader.readLogs(taskId, entry);
      if (reading?.kind !== "open" || reading.open.markerSequence === 0) open.delete(taskId);
      else await settle(taskId, reading.open);
    }
  };
  const timer = setInterval(() => {
    settling = settling.then(settleOld).catch((error) => log.debug({ error: messageOf(error) }, "cancels stay open"));
  }, SETTLE_EVERY_MS);

  return {
    async cancel(taskId, owner) {
      const reading = await reader.read(taskId, owner);
      if (reading.kind === "ended") throw finished(reading.ended.status);
      const marked = await mark(bus, partitions, taskId, reading.open, clock.now());
      if (marked === null) throw finished("in a final state");
      const cancelRequestedAt = rfc3339(marked.cancelRequestedMs);
      if (marked.markerSequence === 0) return { status: "CANCELLED", cancelRequestedAt };
      const task = { ...reading.open, ...marked };
      await settle(taskId, task).catch((error) => {
        log.warn({ task_id: taskId, error: messageOf(error) }, "cancel is settled later");
      });
      return { status: stateOf(task.last).status, cancelRequestedAt };
    },
    opened(taskId, keyId) {
      if (open.size < OPEN_MAX) open.set(taskId, { keyId, sinceMs: clock.monotonicMs() });
    },
    closed: (taskId) => void open.delete(taskId),
    async stop() {
      clearInterval(timer);
      stopping.abort();
      await settling;
    },
  };
}

const finished = (how: string): AppError =>
  new AppError("task_finished", `The task has ended already (${how}); there is nothing to cancel.`);

/**
 * Puts the marker into the log, or finds the one that stands; sequence 0 where a CANCELLED stands behind it already.
 * Null where the task has ended otherwise.
 */
async function mark(
  bus: Bus,
  partitions: number,
  taskId: string,
  task: OpenTask,
  nowMs: number,
): Promise<Pick<OpenTask, "markerSequence" | "cancelRequestedMs"> | null> {
  if (task.markerSequence > 0) return task;
  const { job } = task;
  const data: MarkerData = {
    task_id: taskId,
    model: job.model,
    priority: job.priority,
    created_at: rfc3339(job.created),
    metadata: job.metadata,
    cancel_requested_at: rfc3339(nowMs),
  };
  const marker: Commit = {
    token: "cancelling",
    taskId,
    keyId: job.key,
    fence: randomToken(),
    eventId: "0.0",
    timeMs: nowMs,
    model: job.model,
    callback: undefined,
    dataJson: JSON.stringify(data),
    expectedSequence: 0,
  };
  const outcome = await commitResult(bus, partitions, marker, { signal: AbortSignal.timeout(MARK_MS_MAX) });
  if (outcome.kind === "won") return { markerSequence: outcome.sequence, cancelRequestedMs: nowMs };
  const stands = outcome.by ?? (await readResult(bus, partitions, taskId));
  // Ended by this very marker, while its lost answer was waited for, or by another's: either way it is as asked.
  if (stands?.record.token === "cancelled") return { markerSequence: 0, cancelRequestedMs: nowMs };
  if (stands?.record.token !== "cancelling") return null;
  return { markerSequence: stands.sequence, cancelRequestedMs: stands.record.timeMs };
}
