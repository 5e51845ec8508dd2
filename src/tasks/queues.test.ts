// Queues on a real broker whose jobs are published and pulled by hand, so that what an actor holds is known.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import { append } from "../bus/log.ts";
import { ensureQueue, nak, pull } from "../bus/queues.ts";
import { type QueueAddress, subjects } from "../bus/subjects.ts";
import { type Clock, systemClock } from "../clock.ts";
import { asAppError } from "../errors.ts";
import { randomTaskId } from "../ids.ts";
import { commitResult } from "./commit.ts";
import { openQueues, type Queues } from "./queues.ts";

let broker: Broker;
let offsetMs = 0;
const clock: Clock = { now: systemClock.now, monotonicMs: () => performance.now() + offsetMs };
beforeAll(async () => {
  broker = await startBroker({ partitions: 2 });
});
afterAll(() => broker.stop());

const open = (slots: number): Queues =>
  openQueues({ bus: broker.bus, partitions: 2, clock, capacity: () => ({ actors: 1, slots, sinceMs: 0 }) });

const queue = (model: string, fields: Partial<QueueAddress> = {}): QueueAddress => ({
  partition: 0,
  level: "normal",
  lane: "a",
  model,
  ...fields,
});

/** The jobs' places in the log, as a reader of their tasks finds them. */
async function publish(at: QueueAddress, count: number) {
  await ensureQueue(broker.bus, at);
  const jobs: { jobSubject: string; jobSequence: number }[] = [];
  for (let i = 0; i < count; i++) {
    const id = randomTaskId(Date.now());
    const subject = subjects.job(at, id);
    const filter = subjects.anyJob(at.partition, id);
    const stored = await append(broker.bus, { subject, filter, payload: "{}", expectedSequence: 0, timeoutMs: 5_000 });
    jobs.push({ jobSubject: subject, jobSequence: stored.kind === "stored" ? stored.sequence : 0 });
  }
  return jobs;
}

/** Pulls `count` jobs as an actor does; their ack subjects. */
async function take(at: QueueAddress, count: number): Promise<string[]> {
  const taken: string[] = [];
  const changed = signal();
  const inbox = broker.bus.inbox();
  const subscription = broker.bus.subscribe(inbox, (message) => {
    taken.push(message.reply);
    changed.notify();
  });
  pull(broker.bus, { at, batch: count, expiresMs: 5_000, inbox });
  await changed.until(() => taken.length === count);
  subscription.unsubscribe();
  return taken;
}

test("levels and partitions are summed up by model; what is in hand beyond the slots waits", async () => {
  const at = queue("sums");
  await publish(at, 6);
  await publish(queue("sums", { partition: 1 }), 2);
  await publish(queue("sums", { level: "high" }), 1);
  const taken = await take(at, 3);
  for (const reply of taken.slice(1)) nak(broker.bus, reply, 60_000);
  await broker.bus.flush(5_000);
  const views = (await open(1).list()).filter(({ model }) => model === "sums");
  expect(views).toEqual([
    expect.objectContaining({ priority: "high", depth: 1, inFlight: 0, drainMs: null }),
    expect.objectContaining({ priority: "normal", depth: 7, inFlight: 1, ratePerS: 0 }),
  ]);
  expect(views[1]?.oldestAgeMs).toBeGreaterThanOrEqual(0);
});

test("a place counts what goes first, and knows of jobs that came after the queues were counted", async () => {
  const at = queue("places");
  const [first] = await publish(at, 5);
  const [high] = await publish(queue("places", { level: "high" }), 2);
  await publish(queue("other"), 3);
  const queues = open(1);
  if (!first || !high) throw new Error("nothing was published");
  expect(await queues.place(high)).toEqual({ position: 1, etaMs: null });
  expect(await queues.place(first)).toMatchObject({ position: 3 });
  const [late] = await publish(at, 1);
  if (!late) throw new Error("nothing was published");
  expect(await queues.place(late)).toMatchObject({ position: 8 });
  expect(await queues.place({ ...late, jobSubject: "millrace.jobs.0.later.a.places.x" })).toBeNull();
});

test("a gateway that has just started knows from the log how long a task of the model takes", async () => {
  const at = queue("known");
  const [job] = await publish(at, 1);
  const timing =
    '"timing":{"queue_ms":9,"prepare_ms":100,"infer_ms":200,"postprocess_ms":99,"upload_ms":1,"total_ms":1}';
  const commit = {
    token: "success" as const,
    taskId: randomTaskId(Date.now()),
    keyId: "k",
    fence: "f",
    eventId: "1.2",
    timeMs: Date.now() - 3_600_000,
    model: at.model,
    dataJson: `{"task_id":"t","priority":"low",${timing}}`,
    callback: undefined,
    expectedSequence: 0,
  };
  await commitResult(broker.bus, 2, commit, { signal: AbortSignal.timeout(5_000) });
  if (!job) throw new Error("nothing was published");
  // One slot is free: it starts at once.
  expect(await open(1).place(job)).toEqual({ position: 1, etaMs: 399 });
});

test("without the broker a task has no place, at once, and the list says why", async () => {
  const [job] = await publish(queue("away"), 1);
  const queues = open(1);
  if (!job) throw new Error("nothing was published");
  expect(await queues.place(job)).toMatchObject({ position: 1 });
  await broker.kill();
  offsetMs += 60_000;
  expect(await queues.place(job)).toBeNull();
  const failure = await queues.list().catch(asAppError);
  expect(failure).toMatchObject({ code: "broker_unavailable" });
  await broker.restart();
});
