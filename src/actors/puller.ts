// Pulls the jobs of one model. Idle: standing pulls at the queues where work came from last, so that a job is handed
// over in one hop. Busy: exact pulls of what is known to wait, at the highest level (chooseLevel), never more than there
// is room for. Bells and the pending count of each delivery tell what waits; a look at all queues every half second is
// the net for lost bells. What arrives without room for it is handed back at once and is no attempt.
//
//   queue: quiet ── bell, list ──► waiting ── exact pull ──► (jobs) ──► waiting | quiet
//   queue: quiet ── room and nothing waits anywhere ──► standing pull ──► (job) ──► waiting | quiet
import type { Bus, BusMessage, Subscription } from "../bus/connection.ts";
import { nak, pull, type QueueState } from "../bus/queues.ts";
import {
  consumerName,
  type Delivery,
  type Level,
  levels,
  parseDelivery,
  type QueueAddress,
  streams,
} from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { aheadOfTurn, chooseLane, debtAfter } from "./choose-lane.ts";
import { chooseLevel, type LevelState } from "./choose-level.ts";

export interface Puller {
  /** Word of `count` new jobs in a queue. */
  ring(at: QueueAddress, count: number): void;
  /** What a look at the broker found; queues of other models are ignored. */
  learn(found: readonly QueueState[]): void;
  /** Call when room may have become free. */
  pump(): void;
  /** Forgets all outstanding pulls: after a reconnect the broker knows none of them. */
  reset(): void;
  /** No further pulls; resolves when nothing can arrive any more. */
  stop(): Promise<void>;
}

export interface PullerOptions {
  readonly bus: Bus;
  readonly model: string;
  readonly clock: Clock;
  /** Jobs that could be started now. */
  readonly room: () => number;
  readonly take: (message: BusMessage, delivery: Delivery) => void;
}

interface Queue {
  readonly at: QueueAddress;
  readonly key: string;
  /** Jobs known to wait; advisory. */
  pending: number;
  /** Jobs of the standing pull that may still come; 0: none stands. */
  standing: number;
  standingUntilMs: number;
  /** Jobs of the exact pull that may still come; 0: none is out. */
  asked: number;
  askedAtMs: number;
  deliveredAtMs: number;
  /** The last exact pull found nothing where something was thought to wait. */
  doubted: boolean;
}

interface Next {
  readonly queue: Queue;
  /** 0: room is kept for the other lane, whose jobs are on their way. */
  readonly jobsMax: number;
  /** The other lane of its level has work too. */
  readonly contested: boolean;
}

/** Queues that an idle actor waits at; the others are reached by bells. */
const STANDING_MAX = 16;
const STANDING_EXPIRES_MS = 30_000;
/** A standing pull asks for as much as there is room for where work came from so recently. */
const HOT_MS = 50;
/** An exact pull whose answer is so late was lost. */
const ASKED_MS_MAX = 2_000;
/** Before an empty answer of a queue where something should wait is believed. */
const DOUBT_MS = 1;

const perLevel = <T>(value: T): Record<Level, T> => ({ high: value, normal: value, low: value });

const waits = (queue: Queue): boolean => queue.pending > queue.standing;

export function createPuller(options: PullerOptions): Puller {
  const { bus, clock } = options;
  const queues = new Map<string, Queue>();
  const lookedAtMs: Record<Level, number> = { high: 0, normal: 0, low: 0 };
  const passedOver: Record<Level, number> = { high: 0, normal: 0, low: 0 };
  const laneDebt: Record<Level, number> = { high: 0, normal: 0, low: 0 };
  const prefix = bus.inbox();
  let generation = 0;
  let standing = subscribe("s");
  let stopped = false;
  let leaving: Promise<unknown> = Promise.resolve();
  const exact = subscribe("x");

  function subscribe(kind: string): Subscription & { readonly subject: string } {
    const subject = `${prefix}.${kind}${generation}`;
    const subscription = bus.subscribe(`${subject}.*`, (message) => {
      if (message.status !== 0) closed(message.subject.slice(subject.length + 1), kind, message.status);
      else arrived(message, kind);
    });
    return { subject, unsubscribe: () => subscription.unsubscribe(), drain: () => subscription.drain() };
  }

  function queueOf(at: QueueAddress): Queue {
    const key = `${streams.jobs(at.partition)}/${consumerName(at)}`;
    let queue = queues.get(key);
    if (!queue) {
      const never = Number.NEGATIVE_INFINITY;
      queue = {
        at,
        key,
        pending: 0,
        standing: 0,
        standingUntilMs: 0,
        asked: 0,
        askedAtMs: 0,
        deliveredAtMs: never,
        doubted: false,
      };
      queues.set(key, queue);
    }
    return queue;
  }

  /** So many jobs are known to wait. A level in which none did begins to age now. */
  function setPending(queue: Queue, pending: number): void {
    const { level } = queue.at;
    if (pending > queue.standing && ![...queues.values()].some((each) => each.at.level === level && waits(each))) {
      lookedAtMs[level] = clock.monotonicMs();
      passedOver[level] = 0;
    }
    queue.pending = pending;
  }

  function arrived(message: BusMessage, kind: string): void {
    const delivery = parseDelivery(message.reply);
    if (!delivery) return;
    const queue = queues.get(`${delivery.stream}/${delivery.consumer}`);
    if (queue) {
      if (kind === "x") queue.asked = Math.max(0, queue.asked - 1);
      else queue.standing = Math.max(0, queue.standing - 1);
      setPending(queue, delivery.pending);
      queue.doubted = false;
      queue.deliveredAtMs = clock.monotonicMs();
    }
    if (stopped || options.room() <= 0) {
      nak(bus, message.reply);
      if (queue) queue.pending++;
    } else options.take(message, delivery);
    pump();
  }

  /** A pull ended with a status: nothing there, expired, or refused. */
  function closed(key: string, kind: string, status: number): void {
    const queue = queues.get(key.replace("~", "/"));
    if (!queue) return;
    if (kind === "s") queue.standing = 0;
    else {
      queue.asked = 0;
      // The broker's count of what waits follows the PubAck, and a bell or a look can be quicker: asked once more.
      if (status === 404 && !queue.doubted) {
        queue.doubted = true;
        queue.pending = Math.max(1, queue.pending);
        setTimeout(pump, DOUBT_MS);
        return;
      }
      queue.doubted = false;
      queue.pending = 0;
    }
    pump();
  }

  function pump(): void {
    if (stopped || !bus.connected) return;
    const now = clock.monotonicMs();
    let room = options.room();
    if (room <= 0) {
      leave();
      return;
    }
    for (const queue of queues.values()) room -= queue.asked;
    while (room > 0) {
      const next = nextWaiting(now, room);
      if (!next) break;
      if (next.jobsMax === 0) return;
      const { queue, contested } = next;
      const batch = Math.min(next.jobsMax, queue.pending - queue.standing);
      const { level, lane } = queue.at;
      laneDebt[level] = contested ? debtAfter(laneDebt[level], lane, batch) : 0;
      queue.asked = batch;
      queue.askedAtMs = now;
      lookedAtMs[queue.at.level] = now;
      for (const other of levels) passedOver[other] = other === level ? 0 : passedOver[other] + batch;
      room -= batch;
      pull(bus, { at: queue.at, batch, expiresMs: null, inbox: `${exact.subject}.${queue.key.replace("/", "~")}` });
    }
    if (room > 0) stand(now, room);
  }

  /** The queue to ask next: of the level and the lane that are due, the one that was asked longest ago. */
  function nextWaiting(now: number, room: number): Next | null {
    const best = { a: perLevel<Queue | null>(null), b: perLevel<Queue | null>(null) };
    const waiting = { a: perLevel(false), b: perLevel(false) };
    for (const queue of queues.values()) {
      if (!waits(queue)) continue;
      const { level, lane } = queue.at;
      waiting[lane][level] = true;
      const other = best[lane][level];
      if (queue.asked === 0 && (!other || queue.askedAtMs < other.askedAtMs)) best[lane][level] = queue;
    }
    const states = {} as Record<Level, LevelState>;
    for (const level of levels) {
      const askable = best.a[level] !== null || best.b[level] !== null;
      if (!askable) {
        lookedAtMs[level] = now;
        passedOver[level] = 0;
      }
      states[level] = { waiting: askable, lookedAtMs: lookedAtMs[level], passedOver: passedOver[level] };
    }
    const level = chooseLevel(states, now);
    if (level === null) return null;
    const { a, b } = { a: best.a[level], b: best.b[level] };
    const contested = waiting.a[level] && waiting.b[level];
    if (a && b) {
      const { lane, jobsMax } = chooseLane(laneDebt[level], room);
      return { queue: lane === "a" ? a : b, jobsMax: Math.min(room, jobsMax), contested };
    }
    const queue = a ?? b;
    // Lane b alone because lane a is just being asked: little room is filled past its turn.
    const jobsMax = contested && queue === b ? Math.min(room, aheadOfTurn(laneDebt[level])) : room;
    return queue && { queue, jobsMax, contested };
  }

  function stand(now: number, room: number): void {
    let count = 0;
    for (const queue of queues.values()) if (queue.standing > 0) count++;
    if (count >= Math.min(STANDING_MAX, queues.size)) return;
    const quiet = [...queues.values()].filter((queue) => queue.standing === 0 && queue.asked === 0);
    quiet.sort((a, b) => b.deliveredAtMs - a.deliveredAtMs);
    for (const queue of quiet.slice(0, STANDING_MAX - count)) {
      queue.standing = now - queue.deliveredAtMs < HOT_MS ? room : 1;
      queue.standingUntilMs = now + STANDING_EXPIRES_MS + 1_000;
      const inbox = `${standing.subject}.${queue.key.replace("/", "~")}`;
      pull(bus, { at: queue.at, batch: queue.standing, expiresMs: STANDING_EXPIRES_MS, inbox });
    }
  }

  /** No room: takes the standing pulls back. What is on its way still arrives, on the old subscription. */
  function leave(): void {
    let stood = false;
    for (const queue of queues.values()) {
      stood ||= queue.standing > 0;
      queue.standing = 0;
    }
    if (!stood) return;
    const old = standing;
    generation++;
    standing = subscribe("s");
    leaving = Promise.all([leaving, old.drain()]);
  }

  return {
    ring(at, count) {
      const queue = queueOf(at);
      setPending(queue, queue.pending + count);
      pump();
    },
    learn(found) {
      const now = clock.monotonicMs();
      for (const state of found) {
        if (state.at.model !== options.model) continue;
        const queue = queueOf(state.at);
        if (queue.asked > 0 && now - queue.askedAtMs > ASKED_MS_MAX) queue.asked = 0;
        if (queue.standing > 0 && now > queue.standingUntilMs) queue.standing = 0;
        if (queue.asked > 0) continue;
        // What was handed back or has lost its lease is not "pending"; one job is asked for to see.
        setPending(queue, Math.max(state.pending, state.ackPending > 0 && queue.standing === 0 ? 1 : 0));
      }
      pump();
    },
    pump,
    reset() {
      for (const queue of queues.values()) queue.standing = queue.asked = 0;
    },
    async stop() {
      stopped = true;
      leave();
      await Promise.all([leaving, standing.drain(), exact.drain()]);
    },
  };
}
