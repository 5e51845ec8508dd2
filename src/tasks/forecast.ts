// What is expected of a queue: how many go first, how fast a model works, when a task will have ended. Pure functions on
// what queues.ts knows, and estimates all of them: later tasks of a higher priority, retries and the length of each task
// are not known. How far they are off is measured in docs/benchmarks.md.
import type { QueueState } from "../bus/queues.ts";
import { levels } from "../bus/subjects.ts";
import { LANE_A_JOBS } from "./lanes.ts";

/** Between two tasks of a slot: result, ack, pull. */
const TURNAROUND_MS = 1;

export interface Pace {
  /** Tasks that ended in the last `windowMs`, during all of which others waited. */
  readonly ended: number;
  readonly windowMs: number;
  /** Tasks that all live actors together run at once. */
  readonly slots: number;
  /** Mean milliseconds for which a task keeps its slot; null where none is known. */
  readonly serviceMs: number | null;
}

/**
 * Tasks a millisecond that a model ends while its queue is not empty; null where nothing tells. By Little's law: slots
 * over the time of one task. What was counted bounds it, the closer the longer it was counted: of the tasks that ended
 * in the window at most one a slot had begun before, and at most one a slot has begun and not ended.
 */
export function throughput({ ended, windowMs, slots, serviceMs }: Pace): number | null {
  if (slots === 0) return null;
  const most = windowMs > 0 ? (ended + slots) / windowMs : Number.POSITIVE_INFINITY;
  const least = windowMs > 0 ? (ended - slots) / windowMs : 0;
  if (serviceMs === null) return ended > 0 && windowMs > 0 ? ended / windowMs : null;
  return Math.max(least, Math.min(most, slots / (serviceMs + TURNAROUND_MS)));
}

/** A queue whose jobs in hand are told apart: those that run, and those that were handed back and wait again. */
export interface CountedQueue extends QueueState {
  /** About how many of `ackPending` wait: idle actors are sent more than they have room for, and hand it back. */
  readonly handedBack: number;
}

/** The queues of one model, which `slots` serve: more than so many cannot run. */
export function countedQueues(queues: readonly QueueState[], slots: number): CountedQueue[] {
  const inHand = queues.reduce((sum, { ackPending }) => sum + ackPending, 0);
  const share = inHand > slots ? (inHand - slots) / inHand : 0;
  return queues.map((queue) => ({ ...queue, handedBack: queue.ackPending * share }));
}

/** Sequences of a queue's own log, at the moment at which its jobs were counted. */
export interface QueueExtent {
  /** First and last job of the queue that waits; null where none does. */
  readonly ends: { readonly first: number; readonly last: number } | null;
  /** Last job of any queue. */
  readonly logEnd: number;
}

/**
 * Jobs of its own queue before the job at `sequence`. What was handed back goes first. The jobs that wait are taken to
 * lie evenly between the first and the last: exact where nothing else came between them. What came since they were
 * counted is taken to be of this queue.
 */
export function aheadInQueue(own: CountedQueue, { ends, logEnd }: QueueExtent, sequence: number): number {
  if (sequence <= own.deliveredSequence) return Math.max(0, own.handedBack - 1) / 2;
  if (sequence > logEnd) return own.handedBack + own.pending + (sequence - logEnd - 1);
  if (!ends) return own.handedBack + own.pending;
  const share = (sequence - ends.first) / Math.max(1, Math.min(ends.last, logEnd) - ends.first);
  return own.handedBack + Math.max(0, Math.min(1, share)) * Math.max(0, own.pending - 1);
}

/**
 * Jobs of the model that go before one with `ahead` jobs before it in `own`. Higher levels go first. The queues of its
 * level and lane, one a partition, are visited in turn by every actor, mostly for one job; which of them come before it
 * in the last round is not known. The two lanes go in their proportion. `arrived` jobs came to each queue of its lane
 * since they were counted.
 */
export function aheadInAll(
  own: CountedQueue,
  ahead: number,
  queues: readonly CountedQueue[],
  arrived: number,
  actors: number,
): number {
  const rank = levels.indexOf(own.at.level);
  const visit = Math.max(1, actors);
  const rounds = Math.floor(ahead / visit) * visit;
  let higher = 0;
  let sameLane = ahead;
  let otherLane = 0;
  for (const queue of queues) {
    const other = levels.indexOf(queue.at.level);
    if (queue === own || other > rank) continue;
    const waiting = queue.pending + queue.handedBack;
    if (other < rank) higher += waiting;
    else if (queue.at.lane === own.at.lane) sameLane += Math.min(waiting + arrived, rounds + visit / 2);
    else otherLane += waiting;
  }
  const between = own.at.lane === "a" ? sameLane / LANE_A_JOBS : (sameLane + 1) * LANE_A_JOBS;
  return higher + sameLane + Math.min(otherLane, between);
}

/** Milliseconds until a task with `ahead` others before it has ended; null where the throughput is not known. */
export function etaMs(
  ahead: number,
  perMs: number | null,
  serviceMs: number | null,
  slotsFree: boolean,
): number | null {
  if (perMs === null) return null;
  // Half a turn: the tasks that run are on average half done.
  const startMs = slotsFree && ahead < 1 ? 0 : (ahead + 0.5) / perMs;
  return Math.round(startMs + (serviceMs ?? 0));
}
