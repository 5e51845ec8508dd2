// Follows one stream from a sequence on, in order, without gaps and without acks: the read side of a log. A gap, a
// silence or a reconnect makes a new ephemeral consumer after the last record seen. (The client library's ordered
// consumer notices a restarted broker only after a minute of missed heartbeats; this one on the reconnect.) A stream that
// ends before what was read of it has lost its end (a power cut without fsync, an older copy): it is read anew.
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Bus, BusMessage, Subscription } from "./connection.ts";
import { parseDelivery } from "./subjects.ts";
import { lastSequence } from "./topology.ts";

export interface FollowOptions {
  readonly stream: string;
  /** First sequence wanted; the first record at or after it comes first. Beyond the end: everything comes again. */
  readonly fromSequence: number;
  readonly filter?: string;
  readonly log: Log;
  /** Called in order. Must not throw and must be quick; `pending` records are still to come. */
  readonly onRecord: (record: FollowedRecord) => void;
  /** Null, or when there is room for more: the broker stops sending until then, within what is on its way. */
  readonly room?: (() => Promise<void> | null) | undefined;
}

export interface FollowedRecord {
  readonly subject: string;
  readonly sequence: number;
  readonly pending: number;
  text(): string;
}

export interface Follower {
  /** Resolves when all that was in the stream at the start has been handed over. */
  readonly caughtUp: Promise<void>;
  /** Stops; nothing is called afterwards. Idempotent. */
  stop(): void;
}

const HEARTBEAT_MS = 5_000;
const RETRY_MS = 250;

/** Resolves when the first consumer stands. Throws `broker_unavailable` when it cannot be made. */
export async function follow(bus: Bus, options: FollowOptions): Promise<Follower> {
  let nextSequence = options.fromSequence;
  let subscription: Subscription | null = null;
  let heardAtMs = performance.now();
  let stopped = false;
  let restarting = false;
  let generation = 0;
  let reachEnd: () => void = () => {};
  const caughtUp = new Promise<void>((resolve) => {
    reachEnd = resolve;
  });

  const start = async (): Promise<void> => {
    const mine = ++generation;
    subscription?.unsubscribe();
    const last = await lastSequence(bus, options.stream);
    if (stopped || mine !== generation) return;
    if (nextSequence > last + 1) {
      options.log.warn({ stream: options.stream, next_sequence: nextSequence, last }, "stream is shorter than before");
      nextSequence = 1;
    }
    let expected = 1;
    const inbox = bus.inbox();
    subscription = bus.subscribe(inbox, (message) => {
      if (stopped || mine !== generation) return;
      heardAtMs = performance.now();
      if (message.status !== 0) return control(bus, message, options.room?.() ?? null);
      const delivery = parseDelivery(message.reply);
      if (!delivery) return;
      if (delivery.consumerSequence !== expected) return restart("a gap");
      expected++;
      nextSequence = delivery.streamSequence + 1;
      options.onRecord({
        subject: message.subject,
        sequence: delivery.streamSequence,
        pending: delivery.pending,
        text: () => message.text(),
      });
      if (delivery.pending === 0) reachEnd();
    });
    const waiting = await createConsumer(bus, options, inbox, nextSequence);
    if (waiting === 0) reachEnd();
    heardAtMs = performance.now();
  };

  const restart = (why: string): void => {
    if (stopped || restarting) return;
    restarting = true;
    generation++;
    options.log.debug({ stream: options.stream, next_sequence: nextSequence }, `following anew after ${why}`);
    const attempt = (): void => {
      if (stopped) return;
      start().then(
        () => {
          restarting = false;
        },
        (error) => {
          options.log.debug({ stream: options.stream, error: messageOf(error) }, "cannot follow yet");
          retry = setTimeout(attempt, RETRY_MS);
        },
      );
    };
    attempt();
  };

  let retry: ReturnType<typeof setTimeout> | undefined;
  const stopReconnect = bus.onReconnect(() => {
    clearTimeout(retry);
    restarting = false;
    restart("a reconnect");
  });
  const watchdog = setInterval(() => {
    if (bus.connected && performance.now() - heardAtMs > HEARTBEAT_MS * 2.5) restart("silence");
  }, HEARTBEAT_MS);

  const stop = (): void => {
    stopped = true;
    clearTimeout(retry);
    clearInterval(watchdog);
    stopReconnect();
    subscription?.unsubscribe();
    reachEnd();
  };
  try {
    await start();
  } catch (error) {
    stop();
    throw error;
  }
  return { stop, caughtUp };
}

/** Flow control wants an answer; an idle heartbeat of a stalled consumer names the subject that frees it. */
function control(bus: Bus, message: BusMessage, room: Promise<void> | null): void {
  const answerTo = message.reply || message.header("Nats-Consumer-Stalled");
  if (!answerTo) return;
  if (room === null) bus.publish(answerTo, "");
  else void room.then(() => bus.publish(answerTo, ""));
}

/** Resolves to the number of records that wait. */
async function createConsumer(bus: Bus, options: FollowOptions, inbox: string, sequence: number): Promise<number> {
  const request = {
    stream_name: options.stream,
    config: {
      deliver_subject: inbox,
      deliver_policy: "by_start_sequence",
      opt_start_seq: Math.max(1, sequence),
      ack_policy: "none",
      replay_policy: "instant",
      flow_control: true,
      idle_heartbeat: HEARTBEAT_MS * 1_000_000,
      inactive_threshold: 30_000_000_000,
      num_replicas: 1,
      mem_storage: true,
      ...(options.filter ? { filter_subject: options.filter } : {}),
    },
  };
  const subject = `$JS.API.CONSUMER.CREATE.${options.stream}`;
  const reply = await bus.request(subject, JSON.stringify(request), { timeoutMs: 5_000 });
  const answer = JSON.parse(reply.text()) as {
    num_pending?: number;
    delivered?: { consumer_seq: number };
    error?: { err_code?: number; description?: string };
  };
  if (answer.error) {
    const why = `cannot follow ${options.stream}: ${answer.error.description ?? answer.error.err_code}`;
    throw new AppError("broker_unavailable", why, { retryAfterS: 1 });
  }
  // What was delivered before the answer was written has been handed over on this connection already.
  return (answer.num_pending ?? 0) + (answer.delivered?.consumer_seq ?? 0);
}
