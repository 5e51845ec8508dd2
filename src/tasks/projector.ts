// Keeps the read model in step with the logs: follows both and hands what they say to the projection. A gateway has it
// done on a thread of its own (projector-thread.ts), because writing rows is a quarter of its work and would hold up
// answers; `rebuild` and tests do it here.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import type { DatabasePlace } from "../db/db.ts";
import type { Log } from "../log.ts";
import { followLogs } from "./logs.ts";
import { openProjection } from "./projection.ts";
import { loadCursors } from "./store.ts";

export interface Projector {
  /** Resolves when the read model holds all that was in the logs at the start. */
  readonly caughtUp: Promise<void>;
  /** Writes what it has heard, and ends. */
  stop(): Promise<void>;
}

export interface ProjectOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  readonly partitions: number;
  readonly log: Log;
}

/** From where `sql` stands. `records` counts what was read. */
export async function projectHere(options: ProjectOptions): Promise<Projector & { records(): number }> {
  const { bus, sql, partitions, log } = options;
  const cursors = await loadCursors(sql);
  const projection = openProjection(sql, log);
  let records = 0;
  const following = followLogs({
    bus,
    partitions,
    cursors,
    log,
    onJob: (...heard) => {
      records++;
      projection.job(...heard);
    },
    onResult: (heard, stream) => {
      records++;
      projection.result(heard, stream);
    },
    room: projection.room,
  });
  const logs = await following.catch(async (error) => {
    await projection.stop();
    throw error;
  });
  return {
    caughtUp: logs.caughtUp.then(() => projection.flush()),
    records: () => records,
    async stop() {
      logs.stop();
      await projection.stop();
    },
  };
}

export interface ThreadOptions extends DatabasePlace {
  readonly natsUrl: string;
  readonly partitions: number;
  readonly logLevel: string;
}

/** What the thread is told, and what it tells. */
export type ToProjector = ({ readonly type: "start" } & ThreadOptions) | { readonly type: "stop" };
export type FromProjector =
  | { readonly type: "following" | "caught-up" | "stopped" }
  | { readonly type: "failed"; readonly message: string };

const STOP_MS_MAX = 5_000;

/** Resolves when the thread follows the logs. A thread that dies takes the process with it: it would lag unseen. */
export function projectInThread(options: ThreadOptions): Promise<Projector> {
  const worker = new Worker(new URL("./projector-thread.ts", import.meta.url).href);
  const following = Promise.withResolvers<void>();
  const caughtUp = Promise.withResolvers<void>();
  const stopped = Promise.withResolvers<void>();
  const told = { following, "caught-up": caughtUp, stopped };
  const dead = (why: string): void => {
    following.reject(new Error(`the read model's thread: ${why}`));
    setImmediate(() => {
      throw new Error(`the read model's thread: ${why}`);
    });
  };
  worker.onerror = (event) => dead(event.message);
  worker.onmessage = (event: MessageEvent<FromProjector>) => {
    if (event.data.type === "failed") dead(event.data.message);
    else told[event.data.type].resolve();
  };
  worker.postMessage({ type: "start", ...options } satisfies ToProjector);
  const projector: Projector = {
    caughtUp: caughtUp.promise,
    async stop() {
      worker.postMessage({ type: "stop" } satisfies ToProjector);
      await Promise.race([stopped.promise, Bun.sleep(STOP_MS_MAX)]);
      worker.terminate();
    },
  };
  return following.promise.then(() => projector);
}
