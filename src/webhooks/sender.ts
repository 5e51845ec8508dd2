// All that a gateway does about webhooks beside answering its API: takes in what has ended, sends what is due, tells
// what happens on the way. A gateway has it done on a thread of its own (sender-thread.ts), because SQLite and its
// fsync stop the event loop that calls them; tests do it here.
import type { Bus } from "../bus/connection.ts";
import type { DatabasePlace } from "../db/db.ts";
import type { CallbackRules } from "../net/public-url.ts";
import type { ClearedRange } from "./cleared.ts";
import { type DeliverOptions, startDeliverer } from "./deliver.ts";
import { startIntake } from "./intake.ts";
import { startLive } from "./live.ts";
import type { AttemptMade } from "./metrics.ts";

export interface Sender {
  /** Something has become due otherwise than by time. */
  wake(): void;
  cleared(ranges: readonly ClearedRange[]): void;
  stop(): Promise<void>;
}

export interface SenderOptions extends DeliverOptions {
  readonly bus: Bus;
  readonly partitions: number;
}

/** Resolves when it is known where each log was left. */
export async function sendHere(options: SenderOptions): Promise<Sender> {
  const deliverer = startDeliverer(options);
  const intake = await startIntake({ ...options, onRows: deliverer.wake }).catch(async (error) => {
    await deliverer.stop();
    throw error;
  });
  const live = startLive({ ...options, onEnded: intake.ended });
  return {
    wake: deliverer.wake,
    cleared: intake.cleared,
    async stop() {
      await intake.stop();
      await Promise.all([deliverer.stop(), live.stop()]);
    },
  };
}

export interface SenderThreadOptions extends DatabasePlace {
  readonly natsUrl: string;
  readonly partitions: number;
  readonly logLevel: string;
  readonly secrets: readonly string[];
  readonly retryMs: readonly number[];
  readonly rules: CallbackRules;
  readonly keepMs: number;
}

/** What the thread is told, and what it tells. */
export type ToSender =
  | ({ readonly type: "start" } & SenderThreadOptions)
  | { readonly type: "cleared"; readonly ranges: readonly ClearedRange[] }
  | { readonly type: "wake" | "stop" };
export type FromSender =
  | { readonly type: "started" | "stopped" }
  | { readonly type: "attempted"; readonly attempt: AttemptMade }
  | { readonly type: "failed"; readonly message: string };

const STOP_MS_MAX = 5_000;

/** Resolves when the thread works. A thread that dies takes the process with it: results would stay untold, unseen. */
export function sendInThread(options: SenderThreadOptions, onAttempt: (attempt: AttemptMade) => void): Promise<Sender> {
  const worker = new Worker(new URL("./sender-thread.ts", import.meta.url).href);
  const started = Promise.withResolvers<void>();
  const stopped = Promise.withResolvers<void>();
  const told = { started, stopped };
  const dead = (why: string): void => {
    started.reject(new Error(`the webhooks' thread: ${why}`));
    setImmediate(() => {
      throw new Error(`the webhooks' thread: ${why}`);
    });
  };
  worker.onerror = (event) => dead(event.message);
  worker.onmessage = (event: MessageEvent<FromSender>) => {
    if (event.data.type === "failed") dead(event.data.message);
    else if (event.data.type === "attempted") onAttempt(event.data.attempt);
    else told[event.data.type].resolve();
  };
  worker.postMessage({ type: "start", ...options } satisfies ToSender);
  const sender: Sender = {
    wake: () => worker.postMessage({ type: "wake" } satisfies ToSender),
    cleared: (ranges) => worker.postMessage({ type: "cleared", ranges } satisfies ToSender),
    async stop() {
      worker.postMessage({ type: "stop" } satisfies ToSender);
      await Promise.race([stopped.promise, Bun.sleep(STOP_MS_MAX)]);
      worker.terminate();
    },
  };
  return started.promise.then(() => sender);
}
