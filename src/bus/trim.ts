// The janitor's view of a stream: what stands at its head, and the purge of what is done with.
import { AppError } from "../errors.ts";
import type { Bus } from "./connection.ts";

export interface HeadRecord {
  readonly subject: string;
  readonly sequence: number;
}

const CALL_MS_MAX = 10_000;

async function call<T>(bus: Bus, subject: string, body: object): Promise<T> {
  const reply = await bus.request(subject, JSON.stringify(body), { timeoutMs: CALL_MS_MAX });
  const answer = JSON.parse(reply.text()) as T & { error?: { description?: string } };
  if (answer.error) throw new AppError("broker_unavailable", answer.error.description ?? subject, { retryAfterS: 1 });
  return answer;
}

/** Subjects of the oldest records, oldest first, without their content. */
export async function readHead(bus: Bus, stream: string, count: number): Promise<HeadRecord[]> {
  const info = await call<{ state: { first_seq: number; last_seq: number; messages: number } }>(
    bus,
    `$JS.API.STREAM.INFO.${stream}`,
    {},
  );
  if (info.state.messages === 0) return [];
  return readSubjects(bus, stream, info.state.first_seq, Math.min(count, info.state.messages));
}

/** Reads through a throw-away consumer that sends headers only. */
async function readSubjects(bus: Bus, stream: string, fromSequence: number, count: number): Promise<HeadRecord[]> {
  const created = await call<{ name: string }>(bus, `$JS.API.CONSUMER.CREATE.${stream}`, {
    stream_name: stream,
    config: {
      deliver_policy: "by_start_sequence",
      opt_start_seq: fromSequence,
      ack_policy: "none",
      headers_only: true,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: 10_000_000_000,
    },
  });
  const records: HeadRecord[] = [];
  const inbox = bus.inbox();
  const finished = Promise.withResolvers<void>();
  const timer = setTimeout(() => finished.resolve(), CALL_MS_MAX);
  const subscription = bus.subscribe(inbox, (message) => {
    if (!message.reply) return finished.resolve(); // the status that ends the pull
    records.push({ subject: message.subject, sequence: Number(message.reply.split(".").at(-4)) });
    if (records.length >= count) finished.resolve();
  });
  bus.publish(
    `$JS.API.CONSUMER.MSG.NEXT.${stream}.${created.name}`,
    JSON.stringify({ batch: count, no_wait: true }),
    inbox,
  );
  await finished.promise;
  clearTimeout(timer);
  subscription.unsubscribe();
  await call(bus, `$JS.API.CONSUMER.DELETE.${stream}.${created.name}`, {});
  return records;
}

/** First sequence whose record was stored at or after `beforeMs`; 0 where there is nothing older. */
export async function headTimes(bus: Bus, stream: string, beforeMs: number): Promise<number> {
  const { state } = await call<{ state: { first_seq: number; last_seq: number; first_ts: string; messages: number } }>(
    bus,
    `$JS.API.STREAM.INFO.${stream}`,
    {},
  );
  if (state.messages === 0 || Date.parse(state.first_ts) >= beforeMs) return 0;
  const created = await call<{ name: string; num_pending: number; delivered: { stream_seq: number } }>(
    bus,
    `$JS.API.CONSUMER.CREATE.${stream}`,
    {
      stream_name: stream,
      config: {
        deliver_policy: "by_start_time",
        opt_start_time: new Date(beforeMs).toISOString(),
        ack_policy: "none",
        mem_storage: true,
        num_replicas: 1,
        inactive_threshold: 10_000_000_000,
      },
    },
  );
  await call(bus, `$JS.API.CONSUMER.DELETE.${stream}.${created.name}`, {});
  return created.delivered.stream_seq + 1;
}

/** Deletes every record below `sequence`. */
export async function purgeBelow(bus: Bus, stream: string, sequence: number): Promise<void> {
  await call(bus, `$JS.API.STREAM.PURGE.${stream}`, { seq: sequence });
}
