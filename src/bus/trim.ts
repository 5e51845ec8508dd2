// The janitor's view of a stream: what is oldest in it, and the removal of what is done with.
import { AppError } from "../errors.ts";
import type { Bus } from "./connection.ts";
import { readNext, readRange } from "./log.ts";
import { type ApiRefusal, refusal } from "./refusal.ts";
import { parseDelivery } from "./subjects.ts";

export interface OldRecord {
  readonly subject: string;
  readonly sequence: number;
  /** Milliseconds since the epoch. */
  readonly storedAtMs: number;
}

const CALL_MS_MAX = 10_000;
const ERASED_AT_ONCE = 32;

async function call<T>(bus: Bus, subject: string, body: object): Promise<T> {
  const reply = await bus.request(subject, JSON.stringify(body), { timeoutMs: CALL_MS_MAX });
  const answer = JSON.parse(reply.text()) as T & { error?: ApiRefusal };
  if (answer.error) throw refusal(`a call of ${subject}`, answer.error);
  return answer;
}

interface StreamState {
  readonly first_seq: number;
  readonly last_seq: number;
  readonly first_ts: string;
  readonly messages: number;
}

const stateOf = async (bus: Bus, stream: string): Promise<StreamState> =>
  (await call<{ state: StreamState }>(bus, `$JS.API.STREAM.INFO.${stream}`, {})).state;

/** Every record below this sequence is gone. */
export const firstSequence = async (bus: Bus, stream: string): Promise<number> =>
  (await stateOf(bus, stream)).first_seq;

/** The oldest `count` records from `fromSequence` on, oldest first, without their content; fewer only at the end. */
export async function readOldest(bus: Bus, stream: string, fromSequence: number, count: number): Promise<OldRecord[]> {
  const created = await call<{ name: string; num_pending: number }>(bus, `$JS.API.CONSUMER.CREATE.${stream}`, {
    stream_name: stream,
    config: {
      deliver_policy: "by_start_sequence",
      opt_start_seq: Math.max(1, fromSequence),
      ack_policy: "none",
      headers_only: true,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: 10_000_000_000,
    },
  });
  const records: OldRecord[] = [];
  const inbox = bus.inbox();
  const finished = Promise.withResolvers<void>();
  const late = new AppError("broker_unavailable", "the broker did not answer in time", { retryAfterS: 1 });
  const timer = setTimeout(() => finished.reject(late), CALL_MS_MAX);
  const subscription = bus.subscribe(inbox, (message) => {
    const delivery = parseDelivery(message.reply);
    if (!delivery) return finished.resolve(); // the status that ends the pull
    const { streamSequence, storedAtMs } = delivery;
    records.push({ subject: message.subject, sequence: streamSequence, storedAtMs });
    if (records.length >= count) finished.resolve();
  });
  const next = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${created.name}`;
  bus.publish(next, JSON.stringify({ batch: count, no_wait: true }), inbox);
  try {
    await finished.promise;
    return records;
  } finally {
    clearTimeout(timer);
    subscription.unsubscribe();
    await call(bus, `$JS.API.CONSUMER.DELETE.${stream}.${created.name}`, {});
  }
}

/** First sequence whose record was stored at or after `beforeMs`; 0 where there is nothing older. */
export async function firstSince(bus: Bus, stream: string, beforeMs: number): Promise<number> {
  const state = await stateOf(bus, stream);
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

/**
 * Deletes every record under `filter` below `sequence` and overwrites it on the broker's disk: a purge leaves the bytes
 * there until their block is written anew.
 */
export async function eraseOlder(bus: Bus, stream: string, filter: string, sequence: number): Promise<void> {
  for (;;) {
    const oldest = await readNext(bus, stream, filter, 1, CALL_MS_MAX);
    if (!oldest || oldest.sequence >= sequence) return;
    await eraseRecord(bus, stream, oldest.sequence);
  }
}

/** Deletes and overwrites every record of a subject, in a stream with direct access. */
export async function eraseSubject(bus: Bus, stream: string, subject: string): Promise<void> {
  const sequences = (await readRange(bus, stream, subject, 1)).map((record) => record.sequence);
  while (sequences.length > 0) {
    const some = sequences.splice(0, ERASED_AT_ONCE);
    await Promise.all(some.map((sequence) => eraseRecord(bus, stream, sequence)));
  }
  // What a cluster's follower had not heard of.
  await call(bus, `$JS.API.STREAM.PURGE.${stream}`, { filter: subject });
}

/** Deletes one record. Idempotent. */
export const deleteRecord = (bus: Bus, stream: string, sequence: number): Promise<void> =>
  removeRecord(bus, stream, sequence, false);

/** Deletes one record and overwrites it on the broker's disk. Idempotent. */
export const eraseRecord = (bus: Bus, stream: string, sequence: number): Promise<void> =>
  removeRecord(bus, stream, sequence, true);

async function removeRecord(bus: Bus, stream: string, sequence: number, overwrite: boolean): Promise<void> {
  const body = JSON.stringify({ seq: sequence, no_erase: !overwrite });
  const reply = await bus.request(`$JS.API.STREAM.MSG.DELETE.${stream}`, body, { timeoutMs: CALL_MS_MAX });
  const { error } = JSON.parse(reply.text()) as { error?: ApiRefusal };
  if (error && !/^(no message found|sequence \d+ not found)/.test(error.description ?? "")) {
    throw refusal(`to delete a record of ${stream}`, error);
  }
}
