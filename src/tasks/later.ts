// Puts a task into its queue when its time has come. The job stands in the log at the level `later` from the start; the
// read model knows when it is due; every gateway looks, and the one whose compare-and-set goes through has moved it. So
// it is moved once however many look, and at once after a time when nobody did.
//
//   later ── append at the true level, expecting the waiting job's sequence ──► queue ── delete of the waiting job
//
// A crash between the two leaves a waiting job behind that nothing moves any more; it leaves the log with its task.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import { append, readLast } from "../bus/log.ts";
import { parseLater, type QueueAddress, streams, subjects } from "../bus/subjects.ts";
import { eraseRecord } from "../bus/trim.ts";
import type { Clock } from "../clock.ts";
import { partitionOf } from "../ids.ts";
import type { Log } from "../log.ts";
import { createBells, createQueueGuard } from "./accept.ts";
import type { Lanes } from "./lanes.ts";
import { parseJobRecord } from "./records.ts";
import { forEachAtOnce, type Rounds, startRounds } from "./rounds.ts";
import { dueTasks, markMoved, nextDueMs } from "./store.ts";

export interface LaterOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  readonly partitions: number;
  readonly lanes: Lanes;
  readonly clock: Clock;
  readonly log: Log;
}

/** Tasks of other gateways become known by SQL, so it is asked so often; one that is known fires on time. */
const LOOK_EVERY_MS = 250;
const RETRY_MS = 1_000;
const CALL_MS_MAX = 2_000;
/** Jobs moved in a round, and at once: the gateway's requests go on beside them. */
const BATCH_MAX = 500;
const AT_ONCE_MAX = 32;

export function startLater(options: LaterOptions): Rounds {
  const { bus, sql, clock, log } = options;
  const move = createMove(options);
  const round = async (stopping: AbortSignal): Promise<number> => {
    if (!bus.connected) return RETRY_MS;
    const due = await dueTasks(sql, clock.now(), BATCH_MAX);
    const moved: string[] = [];
    try {
      await forEachAtOnce(due, AT_ONCE_MAX, stopping, async (taskId) => {
        await move(taskId);
        moved.push(taskId);
      });
    } finally {
      if (moved.length > 0) await markMoved(sql, moved);
    }
    if (due.length === BATCH_MAX) return 0;
    const nextMs = await nextDueMs(sql);
    return nextMs === null ? LOOK_EVERY_MS : Math.min(LOOK_EVERY_MS, nextMs - clock.now());
  };
  return startRounds({ name: "tasks that become due", round, retryMs: RETRY_MS, log });
}

/** Moves one job; nothing to do where another gateway has. Throws `broker_unavailable`, `queue_full`. */
function createMove({ bus, partitions, lanes }: LaterOptions): (taskId: string) => Promise<void> {
  const ring = createBells(bus);
  const queues = createQueueGuard(bus);
  return async (taskId) => {
    const partition = partitionOf(taskId, partitions);
    const stream = streams.jobs(partition);
    const filter = subjects.anyJob(partition, taskId);
    const standing = await readLast(bus, stream, filter, CALL_MS_MAX);
    const waiting = standing && parseLater(standing.subject);
    if (!waiting) return;
    const { model } = waiting;
    const { key: keyId, priority: level } = parseJobRecord(standing.text);
    const { lane, giveBack } = lanes.place(taskId, { keyId, level, model });
    const at: QueueAddress = { partition, level, lane, model };
    let moved = false;
    try {
      await queues.ensure(at);
      const { kind } = await append(bus, {
        subject: subjects.job(at, taskId),
        filter,
        payload: standing.text,
        expectedSequence: standing.sequence,
        timeoutMs: CALL_MS_MAX,
      });
      moved = kind === "stored";
    } finally {
      if (!moved) giveBack();
    }
    // Else it was moved by another, or by a publish of ours whose answer was lost.
    if (moved) ring(at);
    // Overwritten: whoever erases the task later finds no trace of this copy.
    await eraseRecord(bus, stream, standing.sequence);
  };
}
