// What waits, for how long, and when it will be done: `GET /v1/queues` and the place of a waiting task. Everything comes
// from the broker's own counts and the log of results, so every gateway says the same; it is kept for about a second,
// and the cost of asking the broker is bounded however many models there are. Estimates; nothing is decided by them.
import type { Bus } from "../bus/connection.ts";
import { readLast } from "../bus/log.ts";
import { type JobPlace, lastWaiting, listQueues, nextWaiting, type QueueState } from "../bus/queues.ts";
import { levels, parseJob, streams, subjects } from "../bus/subjects.ts";
import { lastSequence } from "../bus/topology.ts";
import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import { createCompletions, WINDOW_MS_MAX } from "./completions.ts";
import { aheadInAll, aheadInQueue, type CountedQueue, countedQueues, etaMs, throughput } from "./forecast.ts";
import type { HeardResult } from "./logs.ts";
import type { OpenTask } from "./reader.ts";
import { createRecent } from "./recent.ts";
import { parseResultRecord } from "./records.ts";
import type { Priority } from "./task.ts";

/** The queue of one model and priority, over all keys. */
export interface QueueView {
  readonly model: string;
  readonly priority: Priority;
  /** Tasks that wait: for an actor, or for their next attempt. */
  readonly depth: number;
  /** Tasks that an actor works on. */
  readonly inFlight: number;
  /** How long the oldest of `depth` has waited; null where nothing waits or it was not looked at. */
  readonly oldestAgeMs: number | null;
  /** Tasks that ended a second, over the last 30. */
  readonly ratePerS: number;
  /** Until what waits now has ended; null where nothing tells. */
  readonly drainMs: number | null;
}

/** Where a task's job stands in its log. */
type WaitingTask = Pick<OpenTask, "jobSubject" | "jobSequence">;

/** Where a waiting task stands. */
export interface Place {
  /** 1 is next. */
  readonly position: number;
  /** Milliseconds until it is expected to have ended; null where nothing tells. */
  readonly etaMs: number | null;
}

/** What runs a model now: live actors, tasks at once over all of them, and since when the youngest has lived. */
export interface Capacity {
  readonly actors: number;
  readonly slots: number;
  readonly sinceMs: number;
}

export interface Queues {
  /** Sorted by model and priority. Throws `broker_unavailable`. */
  list(): Promise<readonly QueueView[]>;
  /** Null where it is not known, or not within PLACE_MS_MAX. */
  place(task: WaitingTask): Promise<Place | null>;
  heard(result: HeardResult): void;
}

export interface QueuesOptions {
  readonly bus: Bus;
  readonly partitions: number;
  readonly clock: Clock;
  readonly capacity: (model: string) => Capacity;
}

/** A reader of a task does not wait longer for its place. */
const PLACE_MS_MAX = 100;
const RATE_WINDOW_MS = 30_000;
/** Queues whose oldest job is looked up for one list: one read each. With more, the deepest of each level speak. */
const LOOKED_AT_MAX = 256;
/** Models whose last successes are looked up in one load: a read a partition, once for each. */
const LOOKED_UP_MAX = 16;
const LOOK_UP_MS_MAX = 2_000;

/** What the broker said at one moment. */
interface Counts {
  readonly byModel: ReadonlyMap<string, readonly CountedQueue[]>;
  /** Last sequence of each partition's log of jobs. */
  readonly logEnds: readonly number[];
  /** Tasks of each model that had ended by then. */
  readonly ended: ReadonlyMap<string, number>;
  /** First waiting job of a queue, and about where its last one stands: looked up when they are first asked for. */
  readonly firsts: Map<QueueState, Promise<JobPlace | null>>;
  readonly lasts: Map<QueueState, Promise<number>>;
}

export function openQueues({ bus, partitions, clock, capacity }: QueuesOptions): Queues {
  const completions = createCompletions(clock);

  const each = Array.from({ length: partitions }, (_, p) => p);

  /** Models whose last successes were looked up: a gateway that has just started has heard of none. */
  const lookedUp = new Set<string>();
  const lookUp = async (model: string): Promise<void> => {
    lookedUp.add(model);
    const last = (p: number) => readLast(bus, streams.results(p), subjects.successes(p, model), LOOK_UP_MS_MAX);
    for (const found of await Promise.all(each.map(last))) {
      if (found) completions.learn(model, parseResultRecord(found.text).dataJson);
    }
  };
  const counts = createRecent<Counts>(clock, async () => {
    // The ends of the logs first: a job between the two answers is counted as waiting, and not as arrived since.
    const logEnds = await Promise.all(each.map((p) => lastSequence(bus, streams.jobs(p))));
    const found = await Promise.all(each.map((p) => listQueues(bus, p)));
    const grouped = Map.groupBy(found.flat(), ({ at }) => at.model);
    const byModel = new Map(
      [...grouped].map(([model, queues]) => [model, countedQueues(queues, capacity(model).slots)]),
    );
    const unknown = [...byModel].flatMap(([model, queues]) => {
      const waits = queues.some(({ pending }) => pending > 0);
      return waits && completions.serviceMs(model) === null && !lookedUp.has(model) ? [model] : [];
    });
    await Promise.allSettled(unknown.slice(0, LOOKED_UP_MAX).map(lookUp)); // what cannot be read is not known
    const ended = new Map([...byModel.keys()].map((model) => [model, completions.total(model)]));
    return { byModel, logEnds, ended, firsts: new Map(), lasts: new Map() };
  });
  const firstOf = (queue: QueueState, { firsts }: Counts): Promise<JobPlace | null> =>
    once(firsts, queue, () => nextWaiting(bus, queue.at, queue.deliveredSequence + 1));
  const lastOf = (queue: QueueState, first: JobPlace, { lasts, logEnds }: Counts): Promise<number> =>
    once(lasts, queue, () => lastWaiting(bus, queue.at, first.sequence, logEnds[queue.at.partition] ?? 0));

  /** Tasks a millisecond, given that a task has waited since `waitedMs`: for so long no slot was idle. */
  const paceOf = (model: string, waitedMs: number, { slots, sinceMs }: Capacity): number | null => {
    const busyMs = Math.min(waitedMs, clock.now() - sinceMs, WINDOW_MS_MAX);
    const { ended, ms } = completions.count(model, busyMs);
    return throughput({ ended, windowMs: ms, slots, serviceMs: completions.serviceMs(model) });
  };
  const ageOf = (place: JobPlace | null): number => (place ? Math.max(0, clock.now() - place.storedAtMs) : 0);

  const placeOf = async (task: WaitingTask): Promise<Place | null> => {
    const job = parseJob(task.jobSubject);
    if (!job) return null;
    const counted = await counts.get();
    const queues = counted.byModel.get(job.model) ?? [];
    const logEnd = counted.logEnds[job.partition] ?? 0;
    const arrived = Math.max(0, task.jobSequence - logEnd - 1);
    if (task.jobSequence > logEnd) counts.hurry();
    const same = ({ at }: QueueState): boolean =>
      at.partition === job.partition && at.level === job.level && at.lane === job.lane;
    // The queue may be younger than the counts.
    const own = queues.find(same) ?? { at: job, pending: 0, ackPending: 0, handedBack: 0, deliveredSequence: 0 };
    const first = own.pending > 0 ? await firstOf(own, counted) : null;
    const ends = first && { first: first.sequence, last: await lastOf(own, first, counted) };
    const room = capacity(job.model);
    const serviceMs = completions.serviceMs(job.model);
    const perMs = paceOf(job.model, ageOf(first), room);
    const aheadThen = aheadInAll(
      own,
      aheadInQueue(own, { ends, logEnd }, task.jobSequence),
      queues,
      arrived,
      room.actors,
    );
    const endedSince = completions.total(job.model) - (counted.ended.get(job.model) ?? 0);
    const ahead = Math.max(0, aheadThen - endedSince);
    const inFlight = queues.reduce((sum, { ackPending }) => sum + ackPending, 0);
    return { position: Math.floor(ahead) + 1, etaMs: etaMs(ahead, perMs, serviceMs, inFlight < room.slots) };
  };

  /** The age of the oldest waiting job of each queue that is looked at. */
  const agesOf = async (counted: Counts): Promise<ReadonlyMap<QueueState, number>> => {
    const waiting = [...counted.byModel.values()].flat().filter(({ pending }) => pending > 0);
    const deepest = new Map<string, QueueState>();
    for (const queue of waiting) {
      const key = `${queue.at.level} ${queue.at.model}`;
      if (queue.pending > (deepest.get(key)?.pending ?? 0)) deepest.set(key, queue);
    }
    const looked = waiting.length <= LOOKED_AT_MAX ? waiting : [...deepest.values()].slice(0, LOOKED_AT_MAX);
    const found = await Promise.all(looked.map(async (queue) => [queue, await firstOf(queue, counted)] as const));
    return new Map(found.flatMap(([queue, first]) => (first ? [[queue, ageOf(first)]] : [])));
  };

  const viewsOf = (
    model: string,
    queues: readonly CountedQueue[],
    ages: ReadonlyMap<QueueState, number>,
  ): QueueView[] => {
    const oldest = Math.max(0, ...queues.map((queue) => ages.get(queue) ?? 0));
    const perMs = paceOf(model, oldest, capacity(model));
    const serviceMs = completions.serviceMs(model);
    let before = 0;
    return levels.flatMap((priority) => {
      const here = queues.filter(({ at }) => at.level === priority);
      if (here.length === 0) return [];
      const inHand = here.reduce((sum, { ackPending }) => sum + ackPending, 0);
      const handedBack = Math.round(here.reduce((sum, queue) => sum + queue.handedBack, 0));
      const depth = here.reduce((sum, { pending }) => sum + pending, 0) + handedBack;
      const inFlight = inHand - handedBack;
      const known = here.flatMap((queue) => ages.get(queue) ?? []);
      const { ended, ms } = completions.count(model, RATE_WINDOW_MS, priority);
      before += depth;
      const drainMs = depth === 0 ? 0 : etaMs(before - 1, perMs, serviceMs, false);
      const oldestAgeMs = known.length > 0 ? Math.max(...known) : null;
      return [{ model, priority, depth, inFlight, oldestAgeMs, ratePerS: ms > 0 ? (ended / ms) * 1_000 : 0, drainMs }];
    });
  };

  return {
    async list() {
      const counted = await counts.get();
      const ages = await agesOf(counted);
      return [...counted.byModel]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .flatMap(([model, queues]) => viewsOf(model, queues, ages));
    },
    place: (task) => withDeadline(placeOf(task), PLACE_MS_MAX, late).catch(() => null),
    heard({ record, model }) {
      if (record.token === "success" || record.token === "failure")
        completions.heard(model, record.dataJson, record.timeMs);
    },
  };
}

/** What was loaded for `key`, or is being; a load that fails is forgotten. */
function once<K, T>(loaded: Map<K, Promise<T>>, key: K, load: () => Promise<T>): Promise<T> {
  let found = loaded.get(key);
  if (!found) {
    found = load();
    found.catch(() => loaded.delete(key));
    loaded.set(key, found);
  }
  return found;
}

const late = (): Error => new Error("no answer in time");
