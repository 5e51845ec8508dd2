// What is expected of a queue: how many go first, how fast a model works, when a task will have ended. Pure functions on
// what queues.ts knows, and estimates all of them: later tasks of a higher priority, retries and the length of each task
// are not known. How far they are off is measured in docs/benchmarks.md.
import type { JobPlace, QueueState } from "../bus/queues.ts";
import { levels } from "../bus/subjects.ts";

/** Ends for each slot after which a measured rate is believed: what is still under way then matters little. */
const TURNS_MIN = 4;
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
 * Tasks a millisecond that a model ends while its queue is not empty; null where nothing tells. Measured, once every
 * slot has turned over a few times; before that by Little's law, slots over the time of one.
 */
export function throughput({ ended, windowMs, slots, serviceMs }: Pace): number | null {
  if (slots === 0) return null;
  if (windowMs > 0 && ended >= TURNS_MIN * slots) return ended / windowMs;
  if (serviceMs !== null) return slots / (serviceMs + TURNAROUND_MS);
  return windowMs > 0 && ended > 0 ? ended / windowMs : null;
}

/**
 * Jobs of its own queue before the job at `sequence`. Its queue's jobs are taken to lie evenly between the first and the
 * last that wait: exact where nothing else came between them.
 */
export function aheadInQueue(
  own: QueueState | undefined,
  ends: { readonly first: JobPlace; readonly last: JobPlace } | null,
  sequence: number,
): number {
  if (!own || sequence <= own.deliveredSequence) return 0;
  if (!ends || sequence > ends.last.sequence) return own.pending;
  const { first, last } = ends;
  const share = (sequence - first.sequence) / Math.max(1, last.sequence - first.sequence);
  return Math.max(0, share) * Math.max(0, own.pending - 1);
}

/**
 * Jobs of the model that go before one with `ahead` jobs before it in `own`: the other partitions' queues of its level
 * are served in turn with its own (half of them before it in its own round), higher levels go first.
 */
export function aheadInAll(own: QueueState, ahead: number, queues: readonly QueueState[]): number {
  const rank = levels.indexOf(own.at.level);
  let sum = ahead;
  for (const queue of queues) {
    if (queue === own) continue;
    const other = levels.indexOf(queue.at.level);
    if (other < rank) sum += queue.pending;
    else if (other === rank) sum += Math.min(queue.pending, ahead + 0.5);
  }
  return sum;
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
