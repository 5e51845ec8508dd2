import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import type { BusMessage, Subscription } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import { parseEventRecord } from "../tasks/records.ts";
import { handBack, handBackDead } from "./hand-back.ts";
import type { BoardJob, Fate } from "./scoreboard.ts";

let broker: Broker;
let subscription: Subscription;
const said: { readonly subject: string; readonly text: string }[] = [];
const changed = signal();
beforeAll(async () => {
  broker = await startBroker({ partitions: 1 });
  const hear = (message: BusMessage): void => {
    said.push({ subject: message.subject, text: message.text() });
    changed.notify();
  };
  subscription = broker.bus.subscribe("acks.>", hear);
  broker.bus.subscribe("millrace.bell.*", hear);
  broker.bus.subscribe("millrace.events.*", hear);
});
afterAll(() => broker.stop());
beforeEach(() => {
  said.length = 0;
});

const taskId = "01arz3ndektsv4rrffq69g5fav";
const at = { partition: 3, level: "high", lane: "a", model: "echo.v2" } as const;
const job = (fields: Partial<BoardJob> = {}): BoardJob => ({
  slot: 0,
  fate: "crash",
  ackSubject: "acks.one",
  jobSubject: subjects.job(at, taskId),
  attempt: 2,
  crashes: 0,
  maxAttempts: 3,
  deadlineMs: 0,
  eventNumber: 4,
  ...fields,
});
/** What was said, in order: events as records. */
async function heard(): Promise<{ event?: object; ack?: string; bell?: unknown }[]> {
  await broker.bus.flush(5_000);
  return said.map(({ subject, text }) => {
    if (subject === subjects.events(taskId)) return { event: parseEventRecord(text) };
    return subject === subjects.bell(at.model) ? { bell: JSON.parse(text) } : { ack: text };
  });
}
const bell = { bell: [[at.partition, at.level, at.lane, 1]] };
const retry = { v: 1, attempt: 2, n: 5, event: "RETRY" };

test("a job that a crash interrupted: the word, then the job at once, then the bell", async () => {
  await handBackDead(broker.bus, [job()], () => 0.5);
  expect(await heard()).toEqual([
    { event: { ...retry, crashes: 1, data: expect.objectContaining({ task_id: taskId, retry_in_ms: 0 }) } },
    { ack: "-NAK" },
    bell,
  ]);
});

test("one over its time waits like any failed attempt, and no crash is counted", async () => {
  await handBackDead(broker.bus, [job({ fate: "timeout" })], () => 0.5);
  const delayMs = 1_500; // the second attempt: between one and two seconds
  const error = expect.objectContaining({ code: "timeout", retryable: true });
  expect(await heard()).toEqual([
    { event: { ...retry, crashes: 0, data: expect.objectContaining({ error, retry_in_ms: delayMs }) } },
    { ack: `-NAK {"delay":${delayMs}000000}` },
  ]);
});

test.each(["cancel", "neighbour"] as const)("what ended for another reason (%s) does not count", async (fate: Fate) => {
  await handBackDead(broker.bus, [job({ fate, crashes: 1 })], () => 0.5);
  const event = { v: 1, attempt: 2, n: 5, crashes: 1, event: "log", uncounted: true, data: expect.anything() };
  expect(await heard()).toEqual([{ event }, { ack: "-NAK" }, bell]);
});

test("a job that had not begun goes back without a word", async () => {
  await handBackDead(broker.bus, [job({ attempt: 0, eventNumber: 0 })], () => 0.5);
  expect(await heard()).toEqual([{ ack: "-NAK" }, bell]);
});

test("each job is handed back, and one with a subject that is none of ours is left alone", async () => {
  const entries = [job({ ackSubject: "acks.a" }), job({ jobSubject: "nonsense", ackSubject: "acks.b" }), job()];
  await handBack(
    broker.bus,
    entries.map((each) => ({ job: each, error: null, crashed: false })),
    () => 0,
  );
  await broker.bus.flush(5_000);
  expect(said.filter(({ subject }) => subject.startsWith("acks.")).map(({ subject }) => subject)).toEqual([
    "acks.a",
    "acks.one",
  ]);
  subscription.unsubscribe();
});

test("nothing to hand back is nothing said", async () => {
  await handBackDead(broker.bus, [], () => 0);
  expect(await heard()).toEqual([]);
});
