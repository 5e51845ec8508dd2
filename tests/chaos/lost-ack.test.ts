// The broker has stored a record and its publisher never hears of it: the PubAck is lost, with the connection or without.
// Neither a task nor a result may be doubled or lost by that.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { folderBlobs } from "../../src/blobs/folder.ts";
import { type Bus, openBus } from "../../src/bus/connection.ts";
import { ACK_WAIT_MS } from "../../src/bus/queues.ts";
import { resolveServerBinary, type Server, startServer } from "../../src/bus/server.ts";
import { ensureTopology } from "../../src/bus/topology.ts";
import { systemClock } from "../../src/clock.ts";
import { randomTaskId, randomToken } from "../../src/ids.ts";
import { silentLog } from "../../src/log.ts";
import { type Accept, createAccept } from "../../src/tasks/accept.ts";
import { type Commit, commitResult } from "../../src/tasks/commit.ts";
import { type Stack, startStack } from "../stack.ts";
import { type LossyProxy, startProxy } from "./proxy.ts";
import { endsOf, jobsOf, tokensOf } from "./records.ts";

setDefaultTimeout(60_000);

const PARTITIONS = 2;
let dataDir = "";
let server: Server;
let proxy: LossyProxy;
/** Straight to the broker. */
let bus: Bus;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace lost ack "));
  server = await startServer({ binary: resolveServerBinary(null), dataDir, port: 0, durability: "fsync" });
  bus = await openBus(server.url, "test", silentLog);
  await ensureTopology(bus, { partitions: PARTITIONS, durability: "fsync", taskTtlMs: 3_600_000 }, silentLog);
  proxy = await startProxy(server.url);
});
afterAll(async () => {
  await proxy.close();
  await bus.close();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
});

const cutOrNot = [
  { cut: true, how: "with the connection" },
  { cut: false, how: "alone" },
];
const owner = { keyId: "test" };
const JOB = /^millrace\.jobs\./;

let throughProxy: Bus;
let accept: Accept;
beforeEach(async () => {
  throughProxy = await openBus(proxy.url, "through the proxy", silentLog);
  const blobs = folderBlobs(join(dataDir, "blobs"));
  accept = createAccept({
    bus: throughProxy,
    blobs,
    partitions: PARTITIONS,
    clock: systemClock,
    isFull: () => false,
    place: () => ({ lane: "a", giveBack: () => {} }),
    takeRoom: () => ({ giveBack: () => {} }),
    callbackProblem: () => null,
  });
});
afterEach(() => throughProxy.close());

test.each(cutOrNot)("a task whose PubAck is lost $how is accepted once, as new", async ({ cut }) => {
  for (const client_request_id of [`lost-${cut}`, undefined]) {
    const trap = proxy.loseAck(JOB, cut);
    const request = { model: "echo", input: {}, ...(client_request_id && { client_request_id }) };
    const [{ job, replayed }] = await Promise.all([accept(request, owner, null), trap.lost]);
    expect(replayed).toBe(false);
    expect((await jobsOf(bus)).get(job.id)).toBe(1);
  }
});

test("a large input stays in the store while nobody knows whether its task was accepted", async () => {
  const blobs = folderBlobs(join(dataDir, "blobs"));
  const request = { model: "echo", input: { text: "x".repeat(100_000) }, client_request_id: "lost-large" };
  const trap = proxy.loseAck(JOB, true);
  const answer = accept(request, owner, null);
  answer.catch(() => {}); // looked at below
  await trap.lost;
  const absence = proxy.goAway();
  await expect(answer).rejects.toMatchObject({ code: "broker_unavailable" });
  absence.comeBack();
  expect(await throughProxy.whenConnected(20_000)).toBe(true);
  const again = await accept(request, owner, null);
  expect(again.replayed).toBe(true);
  expect((await jobsOf(bus)).get(again.job.id)).toBe(1);
  expect(await blobs.stat(again.job.inputRef?.key ?? "")).toMatchObject({ sha256: again.job.inputRef?.sha256 ?? "" });
});

test("the request of another gateway, sent while the PubAck is lost, is a replay of the same task", async () => {
  const other = createAccept({
    bus,
    blobs: folderBlobs(join(dataDir, "blobs")),
    partitions: PARTITIONS,
    clock: systemClock,
    isFull: () => false,
    place: () => ({ lane: "a", giveBack: () => {} }),
    takeRoom: () => ({ giveBack: () => {} }),
    callbackProblem: () => null,
  });
  const request = { model: "echo", input: { text: "twice" }, client_request_id: "two-gateways" };
  const trap = proxy.loseAck(JOB, false);
  const first = accept(request, owner, null);
  await trap.lost;
  const second = await other(request, owner, null);
  expect(second.replayed).toBe(true);
  expect(await first).toMatchObject({ replayed: false, job: { id: second.job.id } });
  expect((await jobsOf(bus)).get(second.job.id)).toBe(1);
});

function success(taskId: string): Commit {
  return {
    token: "success",
    taskId,
    keyId: "test",
    fence: randomToken(),
    eventId: "1.2",
    timeMs: Date.now(),
    model: "echo",
    callback: undefined,
    dataJson: JSON.stringify({ task_id: taskId, status: "SUCCESS" }),
    expectedSequence: 0,
  };
}

test.each(cutOrNot)("a result whose PubAck is lost $how is won by its writer, once", async ({ cut }) => {
  const commit = success(randomTaskId(Date.now()));
  const trap = proxy.loseAck(/^millrace\.results\./, cut);
  const signal = AbortSignal.timeout(30_000);
  const [outcome] = await Promise.all([commitResult(throughProxy, PARTITIONS, commit, { signal }), trap.lost]);
  expect(outcome.kind).toBe("won");
  expect((await endsOf(bus)).get(commit.taskId)).toEqual([
    { token: "success", fence: commit.fence, data: commit.dataJson },
  ]);
});

test.each(cutOrNot)("a refusal that is lost $how is still a refusal, and names the winner", async ({ cut }) => {
  const winner = success(randomTaskId(Date.now()));
  const signal = AbortSignal.timeout(30_000);
  expect(await commitResult(bus, PARTITIONS, winner, { signal })).toMatchObject({ kind: "won" });
  const trap = proxy.loseAck(/^millrace\.results\./, cut);
  const loser = { ...winner, fence: randomToken() };
  const [outcome] = await Promise.all([commitResult(throughProxy, PARTITIONS, loser, { signal }), trap.lost]);
  expect(outcome).toMatchObject({ kind: "lost", by: { record: { fence: winner.fence } } });
  expect(tokensOf(await endsOf(bus), winner.taskId)).toEqual(["success"]);
});

test.each(cutOrNot)("a CANCELLED whose PubAck is lost $how follows its marker once", async ({ cut }) => {
  const taskId = randomTaskId(Date.now());
  const signal = AbortSignal.timeout(30_000);
  const marker = await commitResult(bus, PARTITIONS, { ...success(taskId), token: "cancelling" }, { signal });
  if (marker.kind !== "won") throw new Error("the marker was refused");
  const trap = proxy.loseAck(/^millrace\.results\..*\.cancelled\./, cut);
  const end: Commit = { ...success(taskId), token: "cancelled", expectedSequence: marker.sequence };
  const [outcome] = await Promise.all([commitResult(throughProxy, PARTITIONS, end, { signal }), trap.lost]);
  expect(outcome.kind).toBe("won");
  expect(tokensOf(await endsOf(bus), taskId)).toEqual(["cancelling", "cancelled"]);
});

describe("a whole service behind the proxy", () => {
  let stack: Stack;
  beforeAll(async () => {
    const settings = { NATS_URL: proxy.url, MODELS: "echo", PARTITIONS: String(PARTITIONS), DURABILITY: "fsync" };
    stack = await startStack({ settings });
  });
  afterAll(() => stack.stop());

  test.each(cutOrNot)("ends a task once whose job and result lose their PubAcks $how", async ({ cut }) => {
    const job = proxy.loseAck(JOB, cut);
    const result = proxy.loseAck(/^millrace\.results\..*\.success\./, cut);
    const [{ task_id: id }] = await Promise.all([
      stack.submit({ model: "echo", input: { text: "kept" }, client_request_id: `service-${cut}` }),
      job.lost,
    ]);
    const [task] = await Promise.all([stack.ended(id, 30_000), result.lost]);
    expect(task).toMatchObject({ status: "SUCCESS", attempt: 1 });
    expect((await jobsOf(bus)).get(id)).toBe(1);
    expect(tokensOf(await endsOf(bus), id)).toEqual(["success"]);
  });

  test.each(cutOrNot)("cancels a task once whose marker and end lose their PubAcks $how", async ({ cut }) => {
    const { task_id: id } = await stack.submit({ model: "echo", input: { sleep_ms: 600_000 } });
    await stack.started(id);
    const marker = proxy.loseAck(/^millrace\.results\..*\.cancelling\./, cut);
    const cancelled = proxy.loseAck(/^millrace\.results\..*\.cancelled\./, cut);
    const [answer] = await Promise.all([stack.call("POST", `/v1/tasks/${id}/cancel`), marker.lost]);
    expect(answer.status).toBe(202);
    await Promise.all([stack.ended(id, 30_000), cancelled.lost]);
    expect(tokensOf(await endsOf(bus), id)).toEqual(["cancelling", "cancelled"]);
  });

  // A hand-back that is said into a dead connection is not heard, and the job would wait for its lease.
  test("hands a job back when the connection is back, not before", async () => {
    const lookUp = proxy.loseAck(/^\$JS\.API\.STREAM\.MSG\.GET\.RESULTS_/, true);
    const { task_id: id } = await stack.submit({ model: "echo", input: { fail_times: 1 } });
    await lookUp.lost; // of the second attempt
    const absence = proxy.goAway();
    await stack.logged({ message: "job could not be finished; handed back", task_id: id });
    await absence.refused(20); // by all processes: each dials a few times a second
    absence.comeBack();
    const cutAt = performance.now();
    expect(await stack.ended(id, 30_000)).toMatchObject({ status: "SUCCESS", attempt: 2 });
    expect(performance.now() - cutAt).toBeLessThan(ACK_WAIT_MS / 2);
  });

  test("does not take a lost connection for the death of an actor", async () => {
    const second = proxy.cutAfter(/^millrace\.events\./, /"attempt":2,.*"STARTED"/);
    const { task_id: id } = await stack.submit({ model: "echo", input: { fail_times: 1 }, max_attempts: 2 });
    await second;
    expect(await stack.ended(id, 30_000)).toMatchObject({ status: "SUCCESS", attempt: 2 });
    expect(tokensOf(await endsOf(bus), id)).toEqual(["success"]);
  });
});
