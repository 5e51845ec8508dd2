// Knows which tasks were cancelled, so that a job's record need not be read before each run. Every cancel reaches every
// actor as a request on millrace.control.<task_id> after its marker is in the log, and the gateway ends a task without a
// holder only when each actor has answered. So for a job stored after this actor began to listen, not to have heard of a
// cancel means that none stands; older jobs (and all of them after a lost connection) are looked up in the log.
import type { Bus, Subscription } from "../bus/connection.ts";
import { parseControl, streams, subjects } from "../bus/subjects.ts";
import { lastSequence } from "../bus/topology.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ControlRequest } from "../tasks/holders.ts";

export interface CancelWatch {
  /** True where the log must be read before the job of this sequence may run. */
  mustLook(partition: number, streamSequence: number, taskId: string): boolean;
  stop(): void;
}

/** Cancelled tasks remembered; beyond it the oldest are forgotten and jobs up to now are looked up instead. */
const REMEMBERED_MAX = 100_000;

export interface CancelWatchOptions {
  readonly partitions: number;
  readonly actorId: string;
  readonly log: Log;
  /** Whether this actor holds the task; stops it. */
  readonly onCancel: (taskId: string, markerSequence: number) => boolean;
  /** Whether this actor holds the task. */
  readonly onAsk: (taskId: string) => boolean;
}

/** Resolves when this actor listens. Throws `broker_unavailable`. */
export async function watchCancels(bus: Bus, options: CancelWatchOptions): Promise<CancelWatch> {
  const { partitions, log } = options;
  const cancelled = new Set<string>();
  /** Jobs up to this sequence of their partition are looked up; Infinity: all of them. */
  let lookUpTo = new Array<number>(partitions).fill(Number.POSITIVE_INFINITY);
  let generation = 0;

  const takeMarks = async (): Promise<void> => {
    const mine = ++generation;
    lookUpTo = new Array<number>(partitions).fill(Number.POSITIVE_INFINITY);
    await bus.flush(5_000); // the subscription stands at the broker
    const marks = await Promise.all(Array.from({ length: partitions }, (_, p) => lastSequence(bus, streams.jobs(p))));
    if (mine === generation) lookUpTo = marks;
  };
  const again = (): void => {
    takeMarks().catch((error) =>
      log.warn({ error: messageOf(error) }, "every job is looked up until the next reconnect"),
    );
  };

  const subscription: Subscription = bus.subscribe(subjects.anyControl, (message) => {
    const taskId = parseControl(message.subject);
    const request = parseControlRequest(message.text());
    if (!taskId || !request || request.from === options.actorId) return;
    if (request.cancel === null) {
      bus.publish(message.reply, options.onAsk(taskId) ? "held" : "free");
      return;
    }
    if (cancelled.size >= REMEMBERED_MAX) {
      cancelled.clear();
      again();
    }
    cancelled.add(taskId);
    const held = options.onCancel(taskId, request.cancel);
    if (message.reply) bus.publish(message.reply, held ? "held" : "free");
  });
  const stopReconnect = bus.onReconnect(again);
  const stopDisconnect = bus.onDisconnect(() => {
    generation++;
    lookUpTo = new Array<number>(partitions).fill(Number.POSITIVE_INFINITY);
  });
  await takeMarks();

  return {
    mustLook: (partition, streamSequence, taskId) =>
      streamSequence <= (lookUpTo[partition] ?? Number.POSITIVE_INFINITY) || cancelled.has(taskId),
    stop() {
      stopReconnect();
      stopDisconnect();
      subscription.unsubscribe();
    },
  };
}

/** Null for anything else than a control request: it comes from the broker, but not only from us. */
export function parseControlRequest(text: string): ControlRequest | null {
  try {
    const { cancel, from } = JSON.parse(text) as Partial<ControlRequest>;
    const valid = typeof from === "string" && (cancel === null || Number.isSafeInteger(cancel));
    return valid ? { cancel: cancel ?? null, from } : null;
  } catch {
    return null;
  }
}
