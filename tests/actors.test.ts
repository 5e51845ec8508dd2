// What actors do when runners misbehave, on the whole service: who does not heed a signal, who kills or blocks the
// process, and what becomes of the neighbours. Also that two actors share, and that an orderly end loses nothing.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ACK_WAIT_MS } from "../src/bus/queues.ts";
import { resolveServerBinary, startServer } from "../src/bus/server.ts";
import { streams } from "../src/bus/subjects.ts";
import { partitionOf } from "../src/ids.ts";
import { names, readEvents } from "./event-reader.ts";
import { type Stack, startStack, type TaskJson } from "./stack.ts";

setDefaultTimeout(90_000);

const pluginsDir = join(import.meta.dir, "fixtures/plugins");
const BLOCK_MS = ACK_WAIT_MS + 10_000;

const cleanup = new AsyncDisposableStack();
let one: Stack;
let two: Stack;
let folder: string;
let sharedBy: Set<unknown>;
/** Begun first and looked at last: meanwhile the other tests run on the other stack. */
let blocked: TaskJson;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace actors "));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const settings = { PLUGINS_DIR: pluginsDir };
  two = await startStack({ settings: { ...settings, MODELS: "echo,blocker", GPU_IDS: "0,1" } });
  cleanup.defer(() => two.stop());
  sharedBy = await actorsOf(two, 40);
  blocked = await two.submit({ model: "blocker", input: { block_ms: BLOCK_MS } });
  await two.started(blocked.task_id);
  one = await startStack({ settings: { ...settings, MODELS: "echo,recorder,stubborn,poison" } });
  cleanup.defer(() => one.stop());
});

afterAll(() => cleanup.disposeAsync());

/** The actors that ran so many tasks. */
async function actorsOf(stack: Stack, count: number): Promise<Set<unknown>> {
  const submitted = Array.from({ length: count }, () => stack.submit({ model: "echo", input: { sleep_ms: 100 } }));
  const ended = await Promise.all(submitted.map(async (task) => stack.ended((await task).task_id)));
  expect(ended.filter(({ status }) => status !== "SUCCESS")).toEqual([]);
  return new Set(ended.map(({ actor }) => (actor as { id: string }).id));
}

/** A task that would run for ten minutes, and ends at once where it is begun a second time. */
async function startNeighbour(): Promise<string> {
  const name = Bun.randomUUIDv7();
  const input = { file: join(folder, "neighbours.txt"), name, sleep_ms: 600_000, again_ms: 0 };
  const { task_id: id } = await one.submit({ model: "recorder", input });
  await one.started(id);
  return id;
}

async function start(body: object): Promise<string> {
  const { task_id: id } = await one.submit(body);
  await one.started(id);
  return id;
}

test("two actors share the work", () => {
  expect(sharedBy.size).toBe(2);
});

test("the job of an erased task is dropped, not run again", async () => {
  const { metrics, partitions } = await one.logged({ message: "actor is ready" });
  const begun = async (): Promise<string | undefined> =>
    (await (await fetch(String(metrics))).text()).match(/^millrace_task_attempts_total{model="echo"} .*$/m)?.[0];
  const { task_id: id } = await one.submit({ model: "echo", input: {} });
  await one.ended(id);
  const before = await begun();
  expect((await one.call("DELETE", `/v1/tasks/${id}/data`)).status).toBe(200);
  const subject = `$JS.API.CONSUMER.LIST.${streams.jobs(partitionOf(id, Number(partitions)))}`;
  await one.until("the queue to be empty", 10_000, async () => {
    const reply = await one.bus.request(subject, "{}", { timeoutMs: 2_000 });
    const { consumers } = JSON.parse(reply.text()) as {
      consumers: { num_pending: number; num_ack_pending: number }[];
    };
    return consumers.every((queue) => queue.num_pending + queue.num_ack_pending === 0) || null;
  });
  expect(before).toEndWith(" 1");
  expect(await begun()).toBe(before);
});

describe("a runner that does not heed its signal", () => {
  test("is killed with its process after a cancel; its neighbour's attempt does not count", async () => {
    const neighbour = await startNeighbour();
    const id = await start({ model: "stubborn", input: { sleep_ms: 600_000 } });
    const pid = await one.pidOf("actor-0");
    expect((await one.call("POST", `/v1/tasks/${id}/cancel`)).status).toBe(202);
    expect(await one.read(id)).toMatchObject({ status: "STARTED", cancel_requested_at: expect.any(String) });
    expect(await one.ended(id)).toMatchObject({ status: "CANCELLED", attempt: 1 });
    expect(await one.ended(neighbour)).toMatchObject({ status: "SUCCESS", attempt: 1, result: { attempt: 1 } });
    expect(names(await readEvents(one, neighbour))).toEqual(["PENDING", "STARTED", "log", "STARTED", "SUCCESS"]);
    expect(names(await readEvents(one, id)).filter((event) => event === "STARTED")).toHaveLength(1);
    expect(await one.pidOf("actor-0")).not.toBe(pid);
  });

  test("is killed after timeout_ms, and its attempt counts; its neighbour's does not", async () => {
    const neighbour = await startNeighbour();
    const body = { model: "stubborn", input: { sleep_ms: 600_000 }, timeout_ms: 500, max_attempts: 1 };
    const id = await start(body);
    const error = { code: "timeout", retryable: false };
    expect(await one.ended(id)).toMatchObject({ status: "FAILURE", attempt: 1, error });
    expect(await one.ended(neighbour)).toMatchObject({ status: "SUCCESS", attempt: 1, result: { attempt: 1 } });
    expect(names(await readEvents(one, id))).toEqual(["PENDING", "STARTED", "RETRY", "FAILURE"]);
  });
});

test("a runner that heeds its signal loses an attempt by timeout_ms, and its process lives", async () => {
  const pid = await one.pidOf("actor-0");
  const body = { model: "echo", input: { sleep_ms: 600_000 }, timeout_ms: 200, max_attempts: 2 };
  const { task_id: id } = await one.submit(body);
  const error = { code: "timeout", stage: "infer", retryable: false };
  expect(await one.ended(id)).toMatchObject({ status: "FAILURE", attempt: 2, error });
  const seen = await readEvents(one, id);
  expect(names(seen)).toEqual(["PENDING", "STARTED", "RETRY", "STARTED", "FAILURE"]);
  expect(seen[2]?.data).toMatchObject({ error: { code: "timeout", retryable: true } });
  expect(await one.pidOf("actor-0")).toBe(pid);
});

test("a task that kills its process twice is poison; its neighbour and who comes next succeed", async () => {
  const neighbour = await startNeighbour();
  const { task_id: id } = await one.submit({ model: "poison", input: {} });
  const error = { code: "poison", retryable: false };
  expect(await one.ended(id, 40_000)).toMatchObject({ status: "FAILURE", attempt: 2, error });
  const seen = names(await readEvents(one, id));
  expect(seen).toEqual(["PENDING", "STARTED", "RETRY", "STARTED", "RETRY", "FAILURE"]);
  expect(await one.ended(neighbour)).toMatchObject({ status: "SUCCESS" });
  const next = await one.submit({ model: "echo", input: { text: "still here" } });
  expect(await one.ended(next.task_id)).toMatchObject({ status: "SUCCESS", attempt: 1 });
});

describe("an orderly end of up", () => {
  const body = (name: string, more: object) => ({
    model: "recorder",
    input: { file: join(folder, "drained.txt"), name, ...more },
  });

  /** `end` while `task` runs; what becomes of it, when another up starts on the same broker and DATA_DIR. */
  async function endedAround(task: object, end: (stack: Stack) => Promise<unknown>): Promise<TaskJson> {
    const dataDir = await mkdtemp(join(folder, "data "));
    await using cleanup = new AsyncDisposableStack();
    const binary = resolveServerBinary(null);
    const broker = await startServer({ binary, dataDir: join(dataDir, "broker"), port: 0, durability: "fast" });
    cleanup.defer(() => broker.stop());
    const settings = { PLUGINS_DIR: pluginsDir, MODELS: "recorder", NATS_URL: broker.url };
    const before = cleanup.adopt(await startStack({ dataDir, settings }), (stack) => stack.stop());
    const { task_id: id } = await before.submit(task);
    await before.started(id);
    process.kill(before.up.pid, "SIGTERM");
    await end(before);
    expect(await before.up.exited).toBe(0);
    const after = cleanup.adopt(await startStack({ dataDir, settings }), (stack) => stack.stop());
    return await after.ended(id); // awaited: the stack is stopped behind it
  }

  test("lets a running task finish, and exits with 0", async () => {
    const task = body("finishes", { sleep_ms: 1_500, again_ms: 600_000 });
    expect(await endedAround(task, async () => {})).toMatchObject({ status: "SUCCESS", attempt: 1 });
  });

  test("hands back what a second signal does not let finish, uncounted", async () => {
    const task = body("handed back", { sleep_ms: 600_000, again_ms: 0 });
    const ended = await endedAround(task, async (stack) => {
      await stack.logged({ message: "actor drains" });
      process.kill(stack.up.pid, "SIGTERM");
    });
    expect(ended).toMatchObject({ status: "SUCCESS", attempt: 1, result: { attempt: 1 } });
  });
});

test("a runner that blocks its process for longer than a lease keeps it: one delivery, attempt 1", async () => {
  const ended = await two.ended(blocked.task_id, BLOCK_MS + 20_000);
  expect(ended).toMatchObject({ status: "SUCCESS", attempt: 1 });
  expect((ended.timing as { infer_ms: number }).infer_ms).toBeGreaterThanOrEqual(BLOCK_MS);
  expect(names(await readEvents(two, blocked.task_id))).toEqual(["PENDING", "STARTED", "SUCCESS"]);
  const subject = `$JS.API.CONSUMER.INFO.${streams.jobs(0)}.normal_a_blocker`;
  const consumer = JSON.parse((await two.bus.request(subject, "", { timeoutMs: 5_000 })).text());
  expect(consumer.delivered.consumer_seq).toBe(1);
});
