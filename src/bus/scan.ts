// Reads the headers of a stream a batch at a time, when asked: for who looks for few records among many and need not
// know of each at once. A reader that is told of every record (follow.ts) wakes up for each; here a thousand cost one
// wake-up. Nothing is acknowledged: where to go on is the caller's to know, and any place can be asked for again.
import { AppError } from "../errors.ts";
import type { Bus } from "./connection.ts";
import { parseDelivery } from "./subjects.ts";
import { lastSequence } from "./topology.ts";

export interface ScannedRecord {
  readonly subject: string;
  readonly sequence: number;
  /** Value of the header that the scan is for; empty where the record has none. */
  readonly header: string;
}

export interface Batch {
  /** In order, without gaps. */
  readonly records: readonly ScannedRecord[];
  /** Where the next batch begins. */
  readonly nextSequence: number;
  /** Whether there was more behind them. */
  readonly more: boolean;
}

export interface Scan {
  /**
   * Up to `max` records from `fromSequence` on, as they are now. A stream that ends before it has lost its end (a power
   * cut without fsync, an older copy) and is read from its beginning. Throws `broker_unavailable`. One call at a time.
   */
  read(fromSequence: number, max: number): Promise<Batch>;
}

interface Consumer {
  readonly name: string;
  nextSequence: number;
  consumerSequence: number;
}

const CALL_MS_MAX = 5_000;
/** A consumer that nobody asks is forgotten by the broker; the next batch makes another. */
const FORGOTTEN_AFTER_NANOS = 60_000_000_000;

export function openScan(bus: Bus, stream: string, header: string): Scan {
  let consumer: Consumer | null = null;
  return {
    async read(fromSequence, max) {
      if (consumer?.nextSequence !== fromSequence) consumer = await createConsumer(bus, stream, fromSequence);
      const mine = consumer;
      consumer = null; // until it is known that nothing of the batch was lost
      const { batch, whole } = await pull(bus, stream, header, mine, max);
      if (whole) consumer = mine;
      return batch;
    },
  };
}

async function createConsumer(bus: Bus, stream: string, fromSequence: number): Promise<Consumer> {
  const start = fromSequence > (await lastSequence(bus, stream)) + 1 ? 1 : fromSequence;
  const request = {
    stream_name: stream,
    config: {
      deliver_policy: "by_start_sequence",
      opt_start_seq: Math.max(1, start),
      ack_policy: "none",
      replay_policy: "instant",
      headers_only: true,
      max_waiting: 16,
      inactive_threshold: FORGOTTEN_AFTER_NANOS,
      num_replicas: 1,
      mem_storage: true,
    },
  };
  const subject = `$JS.API.CONSUMER.CREATE.${stream}`;
  const reply = await bus.request(subject, JSON.stringify(request), { timeoutMs: CALL_MS_MAX });
  const answer = JSON.parse(reply.text()) as { name?: string; error?: { description?: string } };
  if (!answer.name) {
    const why = `cannot scan ${stream}: ${answer.error?.description ?? "no consumer"}`;
    throw new AppError("broker_unavailable", why, { retryAfterS: 1 });
  }
  return { name: answer.name, nextSequence: start, consumerSequence: 0 };
}

/** `whole`: the consumer stands where the batch ends. */
function pull(
  bus: Bus,
  stream: string,
  header: string,
  consumer: Consumer,
  max: number,
): Promise<{ readonly batch: Batch; readonly whole: boolean }> {
  return new Promise((resolve) => {
    const records: ScannedRecord[] = [];
    const inbox = bus.inbox();
    const settle = (more: boolean, whole: boolean): void => {
      clearTimeout(timer);
      subscription.unsubscribe();
      resolve({ batch: { records, nextSequence: consumer.nextSequence, more }, whole });
    };
    const timer = setTimeout(() => settle(false, false), CALL_MS_MAX);
    const subscription = bus.subscribe(inbox, (message) => {
      // The request stays open until the broker says that there is no more: what it sent before would be lost otherwise.
      // 404: nothing is there; 408: nothing more is. 503: the broker was restarted and knows the consumer no more.
      if (message.status !== 0) return settle(message.status === 503, [404, 408].includes(message.status));
      const delivery = parseDelivery(message.reply);
      if (!delivery) return;
      if (delivery.consumerSequence !== consumer.consumerSequence + 1) return settle(true, false); // a gap
      consumer.consumerSequence++;
      consumer.nextSequence = delivery.streamSequence + 1;
      records.push({
        subject: message.subject,
        sequence: delivery.streamSequence,
        header: message.header(header),
      });
      if (records.length === max) settle(delivery.pending > 0, true);
    });
    const next = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer.name}`;
    bus.publish(next, JSON.stringify({ batch: max, no_wait: true }), inbox);
  });
}
