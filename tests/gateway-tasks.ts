// The tasks of one gateway without HTTP and without actors, for a test that ends tasks by its own hand and owns the
// clock: a real broker, SQLite, a folder of blobs.
import type { Blobs } from "../src/blobs/blobs.ts";
import { folderBlobs } from "../src/blobs/folder.ts";
import type { Bus } from "../src/bus/connection.ts";
import { readLast } from "../src/bus/log.ts";
import { type Level, streams, subjects } from "../src/bus/subjects.ts";
import { type Clock, rfc3339 } from "../src/clock.ts";
import { openReadModel } from "../src/db/db.ts";
import { partitionOf, randomToken } from "../src/ids.ts";
import { silentLog } from "../src/log.ts";
import { createMetrics } from "../src/metrics/metrics.ts";
import type { CallbackEvent } from "../src/tasks/callback.ts";
import type { CapLimits } from "../src/tasks/caps.ts";
import { type Committed, commitResult } from "../src/tasks/commit.ts";
import { type GatewayTasks, openGatewayTasks } from "../src/tasks/gateway.ts";
import { createTaskMetrics } from "../src/tasks/metrics.ts";
import { projectHere } from "../src/tasks/projector.ts";
import { openQueues } from "../src/tasks/queues.ts";
import { readJob } from "../src/tasks/read-job.ts";
import { parseJobRecord } from "../src/tasks/records.ts";
import type { TerminalStatus } from "../src/tasks/task.ts";
import { startBroker } from "./broker.ts";

type Db = Awaited<ReturnType<typeof openReadModel>>;

export const owner = { keyId: "test" };

export interface Ending {
  readonly status?: TerminalStatus;
  readonly result?: unknown;
  /** When the actor says that it ended. Default: now. */
  readonly timeMs?: number;
  readonly eventId?: string;
  readonly expectedSequence?: number;
}

export interface TestTasks {
  readonly bus: Bus;
  readonly sql: Db["sql"];
  readonly tasks: GatewayTasks;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly partitions: number;
  /** One more gateway on the same logs and rows; stopped with the first. */
  join(): Promise<GatewayTasks>;
  readonly natsUrl: string;
  /** Gone after stop(). */
  readonly folder: string;
  /** The clock of the gateway goes forward; the broker's does not. */
  advance(ms: number): void;
  submit(fields?: {
    readonly crid?: string;
    readonly priority?: Level;
    readonly callback_url?: string;
    readonly callback_events?: readonly CallbackEvent[];
  }): Promise<{ taskId: string; replayed: boolean }>;
  /** Ends the task as an actor would. */
  end(taskId: string, ending?: Ending): Promise<Committed>;
  /** Subscriptions of all clients, as the broker counts them. */
  subscriptions(): Promise<number>;
  /** Whether the logs hold the task's job and its result. */
  inLogs(taskId: string): Promise<{ job: boolean; result: boolean }>;
  /** Resolves when the read model has the end of the task. */
  projected(taskId: string): Promise<void>;
  stop(): Promise<void>;
}

export async function startGatewayTasks(options: {
  partitions: number;
  taskTtlMs: number;
  /** Default: SQLite. */
  databaseUrl?: string | null;
  /** Default: no limit. */
  caps?: CapLimits;
}): Promise<TestTasks> {
  const { partitions, taskTtlMs, databaseUrl = null, caps = { tasksMax: 0, bytesMax: 0 } } = options;
  const broker = await startBroker({ partitions, taskTtlMs });
  const { bus } = broker;
  const db = await openReadModel({ dataDir: broker.folder, databaseUrl });
  const { sql } = db;
  const blobs = folderBlobs(`${broker.folder}/blobs`);
  let offsetMs = 0;
  const clock: Clock = { now: () => Date.now() + offsetMs, monotonicMs: () => performance.now() + offsetMs };
  const openTasks = async (): Promise<GatewayTasks> =>
    openGatewayTasks({
      bus,
      sql,
      sqlReady: () => true,
      projector: await projectHere({ bus, sql, partitions, log: silentLog }),
      blobs,
      partitions,
      taskTtlMs,
      historyTtlMs: 10 * taskTtlMs,
      clock,
      log: silentLog,
      liveActors: () => 0,
      callbackProblem: () => null,
      onHeard: () => {},
      metrics: createTaskMetrics(createMetrics(silentLog)),
      caps,
      queues: openQueues({ bus, partitions, clock, capacity: () => ({ actors: 0, slots: 0, sinceMs: 0 }) }),
    });
  const tasks = await openTasks();
  const joined: GatewayTasks[] = [];
  const jobOf = (taskId: string) => readJob(bus, partitions, taskId, 5_000);
  return {
    natsUrl: broker.url,
    folder: broker.folder,
    bus,
    sql,
    tasks,
    blobs,
    clock,
    partitions,
    async join() {
      const further = await openTasks();
      joined.push(further);
      return further;
    },
    advance(ms) {
      offsetMs += ms;
    },
    submit({ crid, priority, callback_url, callback_events } = {}) {
      const request = {
        model: "echo",
        input: {},
        ...(crid && { client_request_id: crid }),
        ...(priority && { priority }),
        ...(callback_url && { callback_url }),
        ...(callback_events && { callback_events }),
      };
      return tasks.accept(request, owner, null);
    },
    async end(
      taskId,
      { status = "SUCCESS", result = {}, timeMs = clock.now(), eventId = "1.2", expectedSequence = 0 } = {},
    ) {
      const stored = await jobOf(taskId);
      const job = parseJobRecord(stored?.text ?? "");
      const data = {
        task_id: taskId,
        status,
        model: job.model,
        priority: job.priority,
        attempt: 1,
        actor: null,
        timing: null,
        result,
        created_at: rfc3339(job.created),
        started_at: null,
        finished_at: rfc3339(timeMs),
        metadata: job.metadata,
      };
      const token = status.toLowerCase() as "success" | "failure" | "cancelled";
      const head = { token, taskId, keyId: job.key, fence: randomToken(), eventId, timeMs, model: job.model };
      const commit = { ...head, callback: job.callback, dataJson: JSON.stringify(data), expectedSequence };
      return commitResult(bus, partitions, commit, { signal: AbortSignal.timeout(5_000) });
    },
    subscriptions: broker.subscriptions,
    async inLogs(taskId) {
      const partition = partitionOf(taskId, partitions);
      const result = await readLast(bus, streams.results(partition), subjects.anyResult(partition, taskId), 5_000);
      return { job: (await jobOf(taskId)) !== null, result: result !== null };
    },
    async projected(taskId) {
      const deadline = performance.now() + 20_000;
      while (performance.now() < deadline) {
        const [row] =
          await sql`SELECT 1 FROM tasks WHERE task_id = ${taskId} AND finished_ms IS NOT NULL AND trimmed = 0`;
        if (row) return;
        await bus.flush(5_000);
      }
      throw new Error(`the end of ${taskId} is not in the read model`);
    },
    async stop() {
      for (const each of [...joined, tasks]) await each.stop();
      await db.close();
      await broker.stop();
    },
  };
}
