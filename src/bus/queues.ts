// The queue side of JOBS: durable pull consumers, pulls, acks. One consumer per (partition, level, lane, model), made
// before the first job is published to it, so that an actor that lists consumers finds all work there is.
import type { Bus } from "./connection.ts";
import { readNext } from "./log.ts";
import { type ApiRefusal, refusal } from "./refusal.ts";
import { consumerName, parseConsumerName, type QueueAddress, streams, subjects } from "./subjects.ts";

/**
 * How long a silent actor keeps a job. Beats come every third of it. A dead actor's jobs are handed back at once; only a
 * job that the broker was just sending to it, and that it never read, waits for this.
 */
export const ACK_WAIT_MS = 15_000;

/** Makes the queue's consumer unless it exists. Idempotent. Throws `broker_unavailable`. */
export async function ensureQueue(bus: Bus, at: QueueAddress): Promise<void> {
  const stream = streams.jobs(at.partition);
  const name = consumerName(at);
  const request = {
    stream_name: stream,
    config: {
      durable_name: name,
      filter_subject: subjects.queue(at),
      deliver_policy: "all",
      ack_policy: "explicit",
      ack_wait: ACK_WAIT_MS * 1_000_000,
      max_deliver: -1, // attempts are counted by us
      max_ack_pending: -1, // tasks that wait for their retry count here; they must not block the queue
      max_waiting: 512,
      replay_policy: "instant",
    },
  };
  const subject = `$JS.API.CONSUMER.DURABLE.CREATE.${stream}.${name}`;
  const reply = await bus.request(subject, JSON.stringify(request), { timeoutMs: 5_000 });
  const answer = JSON.parse(reply.text()) as { error?: ApiRefusal };
  if (answer.error) throw refusal(`to make the queue ${name}`, answer.error);
}

export interface QueueState {
  readonly at: QueueAddress;
  /** Jobs never delivered. */
  readonly pending: number;
  /** Jobs delivered and not yet acked: running, handed back, or waiting for their retry. */
  readonly ackPending: number;
  /** Sequence in its stream up to which jobs have been delivered. */
  readonly deliveredSequence: number;
}

interface ConsumerState {
  readonly name: string;
  readonly num_pending: number;
  readonly num_ack_pending: number;
  readonly delivered: { readonly stream_seq: number };
}

/** The queues of a partition with their depths. Throws `broker_unavailable`. */
export async function listQueues(bus: Bus, partition: number): Promise<QueueState[]> {
  const found: QueueState[] = [];
  for (let offset = 0; ; ) {
    const subject = `$JS.API.CONSUMER.LIST.${streams.jobs(partition)}`;
    const reply = await bus.request(subject, JSON.stringify({ offset }), { timeoutMs: 5_000 });
    const page = JSON.parse(reply.text()) as {
      total?: number;
      consumers?: ConsumerState[];
      error?: ApiRefusal;
    };
    if (page.error) throw refusal(`to list the queues of partition ${partition}`, page.error);
    const consumers = page.consumers ?? [];
    for (const consumer of consumers) {
      const at = parseConsumerName(partition, consumer.name);
      if (!at) continue;
      const { num_pending: pending, num_ack_pending: ackPending, delivered } = consumer;
      found.push({ at, pending, ackPending, deliveredSequence: delivered.stream_seq });
    }
    offset += consumers.length;
    if (consumers.length === 0 || offset >= (page.total ?? 0)) return found;
  }
}

/** A job's place in its stream. */
export interface JobPlace {
  readonly sequence: number;
  /** Milliseconds since the epoch. */
  readonly storedAtMs: number;
}

const ENDS_MS_MAX = 2_000;

/** The last job's place is good enough within this share of the way from the first. */
const LAST_SHARE = 1 / 64;

/** The first of a queue's jobs from `sequence` on, or null. One read. Throws `broker_unavailable`. */
export const nextWaiting = (bus: Bus, at: QueueAddress, sequence: number): Promise<JobPlace | null> =>
  readNext(bus, streams.jobs(at.partition), subjects.queue(at), sequence, ENDS_MS_MAX);

/**
 * About where the last of a queue's jobs stands that is not behind `logEnd`; `first` is the sequence of one of them.
 * Halves what lies between, one read each time: seven for a long queue at the log's end. Not the last record by its
 * subject: for one with a wildcard the broker looks at all of them, 80 ms at a million tasks, and serves nobody else.
 * Throws `broker_unavailable`.
 */
export async function lastWaiting(bus: Bus, at: QueueAddress, first: number, logEnd: number): Promise<number> {
  let known = first;
  let none = logEnd + 1;
  const fine = (): number => Math.max(1, (known - first) * LAST_SHARE);
  while (none - known > fine()) {
    const middle = Math.floor((known + none + 1) / 2);
    const found = await nextWaiting(bus, at, middle);
    if (found && found.sequence < none) known = found.sequence;
    else none = middle;
  }
  return known;
}

export interface PullRequest {
  readonly at: QueueAddress;
  readonly batch: number;
  /** Null: answer with what is there at once. Else wait so long for the first. */
  readonly expiresMs: number | null;
  /** Where jobs and the closing status arrive. */
  readonly inbox: string;
}

export function pull(bus: Bus, request: PullRequest): void {
  const { at, batch, expiresMs, inbox } = request;
  const body =
    expiresMs === null ? `{"batch":${batch},"no_wait":true}` : `{"batch":${batch},"expires":${expiresMs}000000}`;
  bus.publish(`$JS.API.CONSUMER.MSG.NEXT.${streams.jobs(at.partition)}.${consumerName(at)}`, body, inbox);
}

/** The job is done with. Fire and forget: a lost ack makes it come again, and then its result is there. */
export const ack = (bus: Bus, ackSubject: string): void => bus.publish(ackSubject, "+ACK");

/** Gives the job back, to come again after `delayMs`. */
export const nak = (bus: Bus, ackSubject: string, delayMs = 0): void =>
  bus.publish(ackSubject, delayMs > 0 ? `-NAK {"delay":${Math.round(delayMs)}000000}` : "-NAK");

/** Keeps the lease for another ACK_WAIT_MS. */
export const working = (bus: Bus, ackSubject: string): void => bus.publish(ackSubject, "+WPI");
