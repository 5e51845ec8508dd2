// Batches, timelines, queues, actors and the place of a waiting task, on the whole service with two keys.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { events } from "./event-reader.ts";
import { type Stack, startStack, type TaskJson } from "./stack.ts";

let stack: Stack;
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "millrace queues "));
  stack = await startStack({
    apiKeys: "mine:key-of-mine,other:key-of-other",
    settings: {
      PLUGINS_DIR: join(import.meta.dir, "fixtures/plugins"),
      MODELS: "echo,gated,gated-alone,streamer",
      PARTITIONS: "1",
    },
  });
});

afterAll(async () => {
  await stack.stop();
  await rm(dir, { recursive: true, force: true });
});

interface Item {
  readonly status: number;
  readonly task_id?: string;
  readonly task_status?: string;
  readonly problem?: { readonly code: string; readonly errors?: { readonly path: string }[] };
}

const getJson = async <T>(path: string, key = stack.key): Promise<T> =>
  (await (await stack.call("GET", path, undefined, { "x-api-key": key })).json()) as T;

async function batch(tasks: readonly unknown[]): Promise<Item[]> {
  const response = await stack.call("POST", "/v1/tasks/batch", { tasks });
  expect(response.status).toBe(200);
  return ((await response.json()) as { results: Item[] }).results;
}

describe("POST /v1/tasks/batch", () => {
  test("answers each item as it would be alone, in order", async () => {
    const named = { model: "echo", input: { text: "a" }, client_request_id: "batch-1" };
    const [first] = await batch([named]);
    const items = await batch([
      { model: "echo", input: { text: "new" } },
      named,
      { ...named, input: { text: "b" } },
      { model: "nobody", input: {} },
      { model: "echo", input: { text: 7 } },
      { model: "echo", input: {}, unknown: true },
      "not a task",
    ]);
    expect(items.map((item) => [item.status, item.problem?.code])).toEqual([
      [202, undefined],
      [200, undefined],
      [422, "idempotency_mismatch"],
      [404, "unknown_model"],
      [422, "invalid_request"],
      [422, "invalid_request"],
      [422, "invalid_request"],
    ]);
    expect(items[1]?.task_id).toBe(first?.task_id ?? "");
    expect(items[4]?.problem?.errors?.[0]?.path).toBe("/input/text");
    expect((await stack.ended(items[0]?.task_id ?? "")).status).toBe("SUCCESS");
  });

  test("takes a thousand, each of which ends; the same again is the same tasks", async () => {
    const tasks = Array.from({ length: 1_000 }, (_, i) => ({
      model: "echo",
      input: { text: String(i) },
      client_request_id: `thousand-${i}`,
    }));
    const items = await batch(tasks);
    expect(items.filter(({ status }) => status !== 202)).toEqual([]);
    expect(new Set(items.map((item) => item.task_id)).size).toBe(1_000);
    const last = await stack.ended(items[999]?.task_id ?? "");
    expect(last.result).toEqual({ echo: { text: "999" } });
    const again = await batch(tasks);
    expect(again.map(({ status, task_id }) => [status, task_id])).toEqual(items.map(({ task_id }) => [200, task_id]));
  });

  test("refuses what is no batch", async () => {
    const statusOf = async (body: unknown, headers?: Record<string, string>): Promise<unknown[]> => {
      const response = await stack.call("POST", "/v1/tasks/batch", body, headers);
      return [response.status, ((await response.json()) as { code?: string }).code];
    };
    const one = { model: "echo", input: {} };
    const refused = [422, "invalid_request"];
    expect(await statusOf({ tasks: [] })).toEqual(refused);
    expect(await statusOf({ tasks: Array.from({ length: 1_001 }, () => one) })).toEqual(refused);
    expect(await statusOf([one])).toEqual(refused);
    expect(await statusOf({ tasks: [one], more: 1 })).toEqual(refused);
    expect(await statusOf({ tasks: [one] }, { "idempotency-key": "k" })).toEqual(refused);
    expect(await statusOf({ tasks: [one] }, { "x-api-key": "nobody's" })).toEqual([401, "unauthorized"]);
  });
});

interface Timeline {
  readonly status: string;
  readonly complete: boolean;
  readonly entries: readonly Readonly<Record<string, unknown>>[];
}

describe("GET /v1/tasks/{id}/timeline", () => {
  test("tells of every attempt, of what it sent in sum, and of the end with its stages", async () => {
    const retried = await stack.submit({ model: "echo", input: { fail_times: 1 }, max_attempts: 2 });
    const streamed = await stack.submit({ model: "streamer", input: { deltas: 3, every_ms: 0 } });
    await Promise.all([stack.ended(retried.task_id), stack.ended(streamed.task_id)]);
    const timeline = await getJson<Timeline>(`/v1/tasks/${retried.task_id}/timeline`);
    expect(timeline).toMatchObject({ status: "SUCCESS", complete: true });
    expect(timeline.entries.map(({ event, attempt }) => [event, attempt])).toEqual([
      ["queued", undefined],
      ["started", 1],
      ["retry", 1],
      ["started", 2],
      ["ended", 2],
    ]);
    expect(timeline.entries[2]).toMatchObject({ error: { code: "echo_failed", stage: "infer" } });
    expect(timeline.entries[4]).toMatchObject({ status: "SUCCESS", timing: { infer_ms: expect.any(Number) } });
    const { entries } = await getJson<Timeline>(`/v1/tasks/${streamed.task_id}/timeline`);
    expect(entries.find(({ event }) => event === "output")).toMatchObject({ delta_events: 3, progress_events: 0 });
  });

  test("goes on with the task, and shows a cancel; another key's task does not exist", async () => {
    const task = await stack.submit({ model: "gated", input: { dir, gated_attempts: [1] } });
    await stack.started(task.task_id);
    const path = `/v1/tasks/${task.task_id}/timeline`;
    expect((await getJson<Timeline>(path)).entries.map(({ event }) => event)).toEqual(["queued", "started"]);
    await stack.call("POST", `/v1/tasks/${task.task_id}/cancel`);
    await stack.ended(task.task_id);
    expect((await getJson<Timeline>(path)).entries.at(-1)).toMatchObject({ event: "ended", status: "CANCELLED" });
    expect(await getJson(path, "key-of-other")).toMatchObject({ status: 404, code: "task_not_found" });
  });
});

interface Queue {
  readonly model: string;
  readonly priority: string;
  readonly depth: number;
  readonly in_flight: number;
  readonly oldest_age_ms: number | null;
  readonly drain_s: number | null;
}

/** The queue of `model` and `priority`, once it has `depth` waiting. */
const queueOf = (model: string, priority: string, depth: number): Promise<Queue> =>
  stack.until(`${depth} waiting for ${model}`, 10_000, async () => {
    const { data } = await getJson<{ data: Queue[] }>("/v1/queues", "key-of-other");
    return data.find((queue) => queue.model === model && queue.priority === priority && queue.depth === depth) ?? null;
  });

describe("queues, actors and places", () => {
  test("are seen by every key, without an id; a waiting task has its place and a forecast", async () => {
    const submit = (input: object, priority = "normal"): Promise<TaskJson> =>
      stack.submit({ model: "gated-alone", input: { dir, ...input }, priority });
    // One that has ended tells how long they take; it is held so that the one that blocks is taken alone.
    await stack.ended((await submit({ sleep_ms: 50 })).task_id);
    const blocking = await submit({ gated_attempts: [1] });
    await stack.started(blocking.task_id);
    const waiting: string[] = [];
    for (let i = 0; i < 12; i++) waiting.push((await submit({ sleep_ms: 50 })).task_id);
    const high = await submit({ sleep_ms: 50 }, "high");

    const queue = await queueOf("gated-alone", "normal", 12);
    expect(queue.in_flight).toBe(1);
    expect(queue.oldest_age_ms).toBeGreaterThan(0);
    expect(queue.drain_s).toBeGreaterThan(0.5);
    expect(await queueOf("gated-alone", "high", 1)).toMatchObject({ depth: 1 });
    expect(JSON.stringify(await getJson("/v1/queues"))).not.toContain(waiting[0] ?? "");

    const tasks = await Promise.all(waiting.map((id) => stack.read(id)));
    const positions = tasks.map((task) => Number(task.queue_position));
    // One after the other, behind the one of high priority.
    expect(positions).toEqual(waiting.map((_, index) => index + 2));
    const etas = tasks.map((task) => Number(task.eta_ms));
    expect(etas).toEqual(etas.toSorted((a, b) => a - b));
    expect(etas[11]).toBeGreaterThan(600);
    expect(await stack.read(high.task_id)).toMatchObject({ queue_position: 1 });
    expect((await stack.read(blocking.task_id)).queue_position).toBeUndefined();

    const actors = await stack.until("a busy actor", 5_000, async () => {
      const { data } = await getJson<{ data: Readonly<Record<string, unknown>>[] }>("/v1/actors", "key-of-other");
      return data[0]?.busy === 1 ? data : null;
    });
    const models = ["echo", "gated", "gated-alone", "streamer"];
    expect(actors).toEqual([
      {
        id: expect.any(String),
        gpu: "0",
        models: expect.arrayContaining(models),
        slots: 21,
        busy: 1,
        since: expect.any(String),
      },
    ]);

    await Bun.write(join(dir, "open-1"), "");
    for (const id of waiting) expect((await stack.ended(id)).status).toBe("SUCCESS");
    const { data } = await getJson<{ data: (Queue & { rate_per_s: number })[] }>("/v1/queues");
    expect(
      data.find(({ model, priority }) => model === "gated-alone" && priority === "normal")?.rate_per_s,
    ).toBeGreaterThan(0);
    for await (const { event } of events(stack, blocking.task_id)) if (event === "SUCCESS") break;
  });
});
