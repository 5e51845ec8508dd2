// What waits, for how long, and when it will be done: `GET /v1/queues` and the place of a waiting task. Everything comes
// from the broker's own counts and the log of results, so every gateway says the same; it is kept for about a second,
// and the cost of asking the broker is bounded however many models there are. Estimates; nothing is decided by them.
import type { Bus } from "../bus/connection.ts";
import { type JobPlace, listQueues, type QueueState, waitingEnds } from "../bus/queues.ts";
import { consumerName, levels, parseJob } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { createCompletions, WINDOW_MS_MAX } from "./completions.ts";
import { aheadInAll, aheadInQueue, etaMs, throughput } from "./forecast.ts";
import type { HeardResult } from "./logs.ts";
import type { OpenTask } from "./reader.ts";
import { type Aged, createRecent } from "./recent.ts";
import type { Priority } from "./task.ts";

/** The queue of one model and priority, over all keys. */
export interface QueueView {
  readonly model: string;
  readonly priority: Priority;
  /** Tasks that no actor has taken yet. */
  readonly depth: number;
  /** Tasks that an actor has taken: running, or waiting for their next attempt. */
  readonly inFlight: number;
  /** How long the oldest of `depth` has waited; null where nothing waits or it was not looked at. */
  readonly oldestAgeMs: number | null;
  /** Tasks that ended a second, over the last 30. */
  readonly ratePerS: number;
  /** Until what waits now has ended; null where nothing tells. */
  readonly drainMs: number | null;
}

/** Where a waiting task stands. */
export interface Place {
  /** 1 is next. */
  readonly position: number;
  /** Milliseconds until it is expected to have ended; null where nothing tells. */
  readonly etaMs: number | null;
}

/** What runs a model now: tasks at once over all live actors, and since when the youngest of them has lived. */
export interface Capacity {
  readonly slots: number;
  readonly sinceMs: number;
}

export interface Queues {
  /** Sorted by model and priority. Throws `broker_unavailable`. */
  list(): Promise<readonly QueueView[]>;
  /** Null where it is not known, or not within PLACE_MS_MAX. */
  place(task: OpenTask): Promise<Place | null>;
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
/** Queues whose oldest job is looked up for one list: two reads each. With more, the deepest of each level speak. */
const LOOKED_AT_MAX = 256;
const QUEUES_KEPT_MAX = 10_000;

type Ends = { readonly first: JobPlace; readonly last: JobPlace } | null;
/** The queues of each model, and how many of its tasks had ended when they were counted. */
type ByModel = ReadonlyMap<string, { readonly queues: readonly QueueState[]; readonly total: number }>;

export function openQueues({ bus, partitions, clock, capacity }: QueuesOptions): Queues {
  const completions = createCompletions(clock);
  const counts = createRecent<ByModel>(clock, 1);
  const ends = createRecent<Ends>(clock, QUEUES_KEPT_MAX);

  const countAll = () =>
    counts.get("", async () => {
      const found = await Promise.all(Array.from({ length: partitions }, (_, p) => listQueues(bus, p)));
      const byModel = Map.groupBy(found.flat(), ({ at }) => at.model);
      return new Map([...byModel].map(([model, queues]) => [model, { queues, total: completions.total(model) }]));
    });
  const endsOf = (queue: QueueState) =>
    ends.get(`${queue.at.partition}/${consumerName(queue.at)}`, () =>
      waitingEnds(bus, queue.at, queue.deliveredSequence),
    );

  /** Tasks a millisecond, given that a task has waited since `waitedMs`: for so long no slot was idle. */
  const paceOf = (model: string, waitedMs: number, { slots, sinceMs }: Capacity): number | null => {
    const busyMs = Math.min(waitedMs, clock.now() - sinceMs, WINDOW_MS_MAX);
    const { ended, ms } = completions.count(model, busyMs);
    return throughput({ ended, windowMs: ms, slots, serviceMs: completions.serviceMs(model) });
  };
  const ageOf = (place: JobPlace | undefined): number => (place ? Math.max(0, clock.now() - place.storedAtMs) : 0);

  const placeOf = async (task: OpenTask): Promise<Place | null> => {
    const job = parseJob(task.jobSubject);
    if (!job) return null;
    const counted = countAll();
    const { value } = counted instanceof Promise ? await counted : counted;
    const { queues, total } = value.get(job.model) ?? { queues: [], total: completions.total(job.model) };
    const same = ({ at }: QueueState): boolean =>
      at.partition === job.partition && at.level === job.level && at.lane === job.lane;
    // The task may be the first of its queue, and the queue younger than the counts.
    const own = queues.find(same) ?? { at: job, pending: 0, ackPending: 0, deliveredSequence: 0 };
    const found = own.pending > 0 ? endsOf(own) : null;
    const waiting = found instanceof Promise ? (await found).value : (found?.value ?? null);
    const room = capacity(job.model);
    const serviceMs = completions.serviceMs(job.model);
    const perMs = paceOf(job.model, ageOf(waiting?.first), room);
    const aheadThen = aheadInAll(own, aheadInQueue(own, waiting, task.jobSequence), queues);
    const ahead = Math.max(0, aheadThen - (completions.total(job.model) - total));
    const inFlight = queues.reduce((sum, { ackPending }) => sum + ackPending, 0);
    return { position: Math.floor(ahead) + 1, etaMs: etaMs(ahead, perMs, serviceMs, inFlight < room.slots) };
  };

  /** The age of the oldest waiting job of each queue that is looked at. */
  const agesOf = async (waiting: readonly QueueState[]): Promise<ReadonlyMap<QueueState, number>> => {
    const deepest = new Map<string, QueueState>();
    for (const queue of waiting) {
      const key = `${queue.at.level} ${queue.at.model}`;
      if (queue.pending > (deepest.get(key)?.pending ?? 0)) deepest.set(key, queue);
    }
    const looked = waiting.length <= LOOKED_AT_MAX ? waiting : [...deepest.values()].slice(0, LOOKED_AT_MAX);
    const found = await Promise.all(looked.map(async (queue) => [queue, await endsOf(queue)] as const));
    return new Map(found.flatMap(([queue, { value }]) => (value ? [[queue, ageOf(value.first)]] : [])));
  };

  const viewsOf = (
    model: string,
    queues: readonly QueueState[],
    ages: ReadonlyMap<QueueState, number>,
  ): QueueView[] => {
    const oldest = Math.max(0, ...queues.map((queue) => ages.get(queue) ?? 0));
    const perMs = paceOf(model, oldest, capacity(model));
    const serviceMs = completions.serviceMs(model);
    let before = 0;
    return levels.flatMap((priority) => {
      const here = queues.filter(({ at }) => at.level === priority);
      if (here.length === 0) return [];
      const depth = here.reduce((sum, { pending }) => sum + pending, 0);
      const inFlight = here.reduce((sum, { ackPending }) => sum + ackPending, 0);
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
      const { value }: Aged<ByModel> = await countAll();
      const all = [...value.values()].flatMap(({ queues }) => queues);
      const ages = await agesOf(all.filter(({ pending }) => pending > 0));
      return [...value]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .flatMap(([model, { queues }]) => viewsOf(model, queues, ages));
    },
    place: (task) => within(placeOf(task), PLACE_MS_MAX),
    heard({ record, model }) {
      if (record.token === "success" || record.token === "failure")
        completions.heard(model, record.dataJson, record.timeMs);
    },
  };
}

/** What `work` resolves to; null when it fails or takes longer. */
function within<T>(work: Promise<T>, waitMs: number): Promise<T | null> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), waitMs);
    work.then(resolve, () => resolve(null)).finally(() => clearTimeout(timer));
  });
}
