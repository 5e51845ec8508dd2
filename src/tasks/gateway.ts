// The tasks of one gateway: puts the parts of this folder together and is what the HTTP layer calls. Holds nothing that
// another gateway lacks; all its memory is a cache of the logs.
import type { SQL } from "bun";
import type { Blobs } from "../blobs/blobs.ts";
import type { Bus } from "../bus/connection.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { createAccept } from "./accept.ts";
import { createCanceller } from "./cancel.ts";
import { type CapLimits, createCaps } from "./caps.ts";
import { startDeadlines } from "./deadlines.ts";
import { taskEvents } from "./event-stream.ts";
import { type EndedTask, openFeed } from "./feed.ts";
import { startJanitor } from "./janitor.ts";
import { createLanes } from "./lanes.ts";
import { startLater } from "./later.ts";
import type { HeardResult } from "./logs.ts";
import type { TaskMetrics } from "./metrics.ts";
import type { Projector } from "./projector.ts";
import type { Queues } from "./queues.ts";
import { createReader, type Reader, type Reading, viewOf } from "./reader.ts";
import { statusOf } from "./records.ts";
import { loadCursors, openCancels } from "./store.ts";
import type { Owner, TaskResult, Tasks, TaskView } from "./tasks.ts";
import { readTimeline } from "./timeline.ts";

export interface GatewayTasksOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  /** False while the database is known not to answer: tasks are taken, and read from the logs. */
  readonly sqlReady: () => boolean;
  /** Keeps `sql` in step with the logs; stopped with the tasks. */
  readonly projector: Projector;
  readonly blobs: Blobs;
  readonly partitions: number;
  readonly taskTtlMs: number;
  readonly historyTtlMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly liveActors: () => number;
  readonly queues: Queues;
  /** Why results cannot be sent to a URL, for the client; null when they can. */
  readonly callbackProblem: (url: string) => string | null;
  /** Called for every result of the logs, in their order. Must be quick. */
  readonly onHeard: (heard: HeardResult) => void;
  readonly metrics: TaskMetrics;
  readonly caps: CapLimits;
}

export interface GatewayTasks extends Tasks {
  /** Resolves when the read model holds all that was in the logs at the start. */
  readonly caughtUp: Promise<void>;
  stop(): Promise<void>;
}

/** A client may hold a request so long. */
const WAIT_MS_MAX = 60_000;

export async function openGatewayTasks(options: GatewayTasksOptions): Promise<GatewayTasks> {
  const { bus, sql, projector, partitions, clock, log } = options;
  // The feed speaks before these stand; what it says then is in the logs, which they read.
  let canceller: ReturnType<typeof createCanceller> | null = null;
  let reader: Reader | null = null;
  const lanes = createLanes({ sql, clock, log });
  const caps = createCaps({ sql, limits: options.caps, clock, log });
  const feed = await openFeed({
    bus,
    partitions,
    cursors: await loadCursors(sql),
    log,
    clock,
    taskTtlMs: options.taskTtlMs,
    onResult: (heard) => {
      options.queues.heard(heard);
      options.onHeard(heard);
      const { taskId, keyId, token } = heard.record;
      if (statusOf(token)) {
        lanes.ended(taskId);
        caps.ended(taskId);
        reader?.closed(taskId);
        canceller?.closed(taskId);
      } else canceller?.opened(taskId, keyId);
    },
  });
  const reading = createReader({ ...options, feed });
  reader = reading;
  canceller = createCanceller({ ...options, reader: reading });
  const settled = canceller;
  for (const { taskId, keyId } of await openCancels(sql)) settled.opened(taskId, keyId);
  const janitor = startJanitor(options);
  const later = startLater({ ...options, lanes });
  const deadlines = startDeadlines({ ...options, reader: reading });
  const view = async (taskId: string, found: Reading): Promise<TaskView> => {
    const queued = found.kind === "open" && found.open.last === null && (found.open.job.runAt ?? 0) <= clock.now();
    return viewOf(taskId, found, queued ? await options.queues.place(found.open) : null);
  };
  const { blobs, callbackProblem } = options;
  const { place } = lanes;
  const { take: takeRoom } = caps;
  const accept = createAccept({
    bus,
    blobs,
    partitions,
    clock,
    isFull: janitor.isFull,
    callbackProblem,
    place,
    takeRoom,
  });

  return {
    caughtUp: projector.caughtUp,
    async accept(request, owner, trace) {
      const { job, replayed } = await accept(request, owner, trace);
      if (!replayed) {
        options.metrics.accepted(job.model, job.priority);
        if (!feed.recent(job.id)) reading.opened(job.id);
        return { taskId: job.id, status: "PENDING", replayed };
      }
      return { taskId: job.id, status: viewOf(job.id, await reading.read(job.id, owner)).status, replayed };
    },
    read: async (taskId, owner) => view(taskId, await reading.read(taskId, owner)),
    wait: (taskId, owner, waitMs, signal) => {
      const end = Promise.withResolvers<EndedTask | null>();
      const takeBack = feed.onEnd(taskId, end.resolve);
      return waitFor(() => reading.read(taskId, owner), Math.min(waitMs, WAIT_MS_MAX), end, signal)
        .then((found) => view(taskId, found))
        .finally(takeBack);
    },
    result: async (taskId, owner) => resultOf(taskId, await reading.read(taskId, owner)),
    events: (taskId, owner, lastEventId, signal) =>
      taskEvents({ bus, feed, reader: reading }, taskId, owner, lastEventId, signal),
    timeline: (taskId, owner) => readTimeline(bus, reading, taskId, owner),
    cancel: (taskId, owner: Owner) => settled.cancel(taskId, owner),
    async stop() {
      feed.stop();
      await Promise.all([
        settled.stop(),
        janitor.stop(),
        later.stop(),
        deadlines.stop(),
        lanes.settled(),
        caps.settled(),
      ]);
      await projector.stop();
    },
  };
}

/** The task when it has ended, or as it is after `waitMs`. The caller listens for the end before this reads. */
async function waitFor(
  read: () => Promise<Reading>,
  waitMs: number,
  end: PromiseWithResolvers<EndedTask | null>,
  signal: AbortSignal,
): Promise<Reading> {
  const first = await read();
  if (first.kind === "ended") return first;
  const giveUp = (): void => end.resolve(null);
  const timer = setTimeout(giveUp, waitMs);
  signal.addEventListener("abort", giveUp);
  if (signal.aborted) giveUp();
  const ended = await end.promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", giveUp);
  return ended ? { kind: "ended", ended } : read();
}

interface StoredResult {
  readonly s3_key?: unknown;
  readonly sha256?: unknown;
  readonly size_bytes?: unknown;
  readonly content_type?: unknown;
}

/** Null while the task has not ended. Throws `no_result`. */
function resultOf(taskId: string, reading: Reading): TaskResult | null {
  if (reading.kind === "open") return null;
  const { status, dataJson } = reading.ended;
  if (status !== "SUCCESS") throw new AppError("no_result", `The task ended as ${status}: it has no result.`);
  const { result, data_deleted_at: deletedAt } = JSON.parse(dataJson) as { result?: unknown; data_deleted_at?: string };
  if (deletedAt !== undefined) throw new AppError("no_result", `The task's data were deleted at ${deletedAt}.`);
  const { s3_key, sha256, size_bytes, content_type } = (result ?? {}) as StoredResult;
  const stored = typeof s3_key === "string" && typeof sha256 === "string" && typeof size_bytes === "number";
  // A runner may answer fields of these names itself, with whatever its input said: only this task's objects count.
  if (!stored || !s3_key.startsWith(`results/${taskId}-`))
    return { kind: "json", json: JSON.stringify(result ?? null) };
  const contentType = typeof content_type === "string" ? content_type : "application/octet-stream";
  return { kind: "blob", key: s3_key, contentType, sizeBytes: size_bytes, sha256 };
}
