// Which lane a task takes in its queue: a key's first tasks lane a, what it queues beyond them lane b, so that a key
// with ten thousand tasks does not keep another's ten waiting (docs/decisions/0024-lanes-by-estimate.md). Called for
// every task that is accepted or becomes due. A guess with a stated error: only the order of tasks may depend on it.
//
// What is queued is the larger of two counts: the tasks of the last seconds that this gateway put there and whose end it
// has not heard, and the open rows of the read model, which is a second behind and knows those of all gateways.
import type { SQL } from "bun";
import type { Lane } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { createRecentlyOpen } from "./recently-open.ts";
import { type KeyQueue, openInQueue } from "./store.ts";

/** Jobs of lane a that actors take for one of lane b, where both wait. */
export const LANE_A_JOBS = 4;
/** So many open tasks of a key in a queue go to lane a: what each other key waits behind, for each key and gateway. */
export const LANE_A_MAX = 16;
/** And as many as ended in a second where those are more: a queue that moves so fast keeps nobody waiting. */
const PACE_MS = 1_000;
/** The read model is asked at most so often about a key's queue, and what it said is believed for so long. */
const LOOK_EVERY_MS = 1_000;
const BELIEVED_MS_MAX = 3_000;
/** Tasks of a key in a queue between two looks: one that sends fewer is no backlog. */
const LOOK_AFTER = LANE_A_MAX / 2;
const LOOKS_AT_ONCE_MAX = 4;
/** Tasks of a key in a queue that are counted here, and the most that go to lane a. */
const COUNTED_MAX = 1_000;
/** Queues of keys that are known; when there are more, those without a task of late are forgotten. */
const KEY_QUEUES_MAX = 10_000;

export interface Place {
  readonly lane: Lane;
  /** The task was not put there. */
  readonly giveBack: () => void;
}

export interface Lanes {
  /** A lane for a task that goes to this queue now; it counts from here until its end or giveBack(). */
  place(taskId: string, to: KeyQueue): Place;
  ended(taskId: string): void;
  /** Resolves when no question to the database is under way. */
  settled(): Promise<void>;
}

interface Known {
  /** Tasks put there of late that have not ended. */
  counted: number;
  /** Of these, how many ended in the present span of PACE_MS, and in the one before. */
  ended: number;
  endedBefore: number;
  spanFromMs: number;
  /** Put there since the last look. */
  sinceLook: number;
  lookedAtMs: number;
  rows: number;
  rowsAtMs: number;
}

const LANE_A: Place = { lane: "a", giveBack: () => {} };
const LANE_B: Place = { lane: "b", giveBack: () => {} };

export function createLanes({ sql, clock, log }: { sql: SQL; clock: Clock; log: Log }): Lanes {
  const known = new Map<string, Known>();
  const looks = new Set<Promise<void>>();
  const recent = createRecentlyOpen<Known>(clock, (queue) => {
    queue.counted--;
  });
  let failing = false;

  const knownOf = ({ keyId, level, model }: KeyQueue, nowMs: number): Known => {
    const name = `${level} ${model} ${keyId}`;
    let queue = known.get(name);
    if (!queue) {
      if (known.size >= KEY_QUEUES_MAX) {
        for (const [each, { counted }] of known) if (counted === 0) known.delete(each);
      }
      const never = Number.NEGATIVE_INFINITY;
      queue = {
        counted: 0,
        ended: 0,
        endedBefore: 0,
        spanFromMs: nowMs,
        sinceLook: 0,
        lookedAtMs: never,
        rows: 0,
        rowsAtMs: never,
      };
      known.set(name, queue);
    }
    return queue;
  };
  const look = async (queue: Known, of: KeyQueue, nowMs: number, countMax: number): Promise<void> => {
    queue.lookedAtMs = nowMs;
    queue.sinceLook = 0;
    try {
      queue.rows = await openInQueue(sql, of, countMax);
      queue.rowsAtMs = clock.monotonicMs();
      failing = false;
    } catch (error) {
      // A database that is away fails every look: said once. What is counted here goes on deciding.
      log[failing ? "debug" : "warn"]({ error: messageOf(error) }, "the queue of a key could not be counted");
      failing = true;
    }
  };
  const lookAgain = (queue: Known, of: KeyQueue, nowMs: number, countMax: number): void => {
    const wanted = queue.sinceLook >= LOOK_AFTER || queue.rows >= LANE_A_MAX;
    if (!wanted || nowMs - queue.lookedAtMs < LOOK_EVERY_MS || looks.size >= LOOKS_AT_ONCE_MAX) return;
    const looking = look(queue, of, nowMs, countMax).finally(() => looks.delete(looking));
    looks.add(looking);
  };

  return {
    place(taskId, to) {
      const nowMs = clock.monotonicMs();
      recent.age(nowMs);
      const queue = knownOf(to, nowMs);
      const laneMax = laneMaxOf(queue, nowMs);
      const rows = nowMs - queue.rowsAtMs < BELIEVED_MS_MAX ? queue.rows : 0;
      const isOver = Math.max(queue.counted, rows) >= laneMax;
      queue.sinceLook++;
      if (queue.counted < laneMax) lookAgain(queue, to, nowMs, laneMax);
      // Asked for again, or more than need be counted.
      if (recent.has(taskId) || queue.counted >= COUNTED_MAX) return isOver ? LANE_B : LANE_A;
      recent.add(taskId, queue);
      queue.counted++;
      return { lane: isOver ? "b" : "a", giveBack: () => void recent.remove(taskId) };
    },
    ended(taskId) {
      const queue = recent.remove(taskId);
      if (queue) queue.ended++;
    },
    settled: () => Promise.all(looks).then(() => {}),
  };
}

/** How many open tasks the key may have in lane a. */
function laneMaxOf(queue: Known, nowMs: number): number {
  const spanMs = nowMs - queue.spanFromMs;
  if (spanMs >= PACE_MS) {
    queue.endedBefore = spanMs < 2 * PACE_MS ? queue.ended : 0;
    queue.ended = 0;
    queue.spanFromMs = nowMs;
  }
  return Math.min(COUNTED_MAX, Math.max(LANE_A_MAX, queue.ended, queue.endedBefore));
}
