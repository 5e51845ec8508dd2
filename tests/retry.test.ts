// Retrying and bulk actions on the whole service: what is repeated, once, by whom, and what is left alone.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { readLast } from "../src/bus/log.ts";
import { streams, subjects } from "../src/bus/subjects.ts";
import { deleteRecord } from "../src/bus/trim.ts";
import { startReceiver } from "./receiver.ts";
import { type Stack, startStack, type TaskJson } from "./stack.ts";

setDefaultTimeout(30_000);

interface BulkResult {
  readonly accepted: number;
  readonly skipped: number;
  readonly failed: number;
  readonly data: readonly { readonly task_id: string; readonly outcome: string; readonly retried_as?: string }[];
  readonly has_more: boolean;
  readonly next_cursor: string | null;
}

const other = { "x-api-key": "retry-key-of-bob" };
let stack: Stack;

beforeAll(async () => {
  const pluginsDir = join(import.meta.dir, "fixtures/plugins");
  stack = await startStack({
    apiKeys: "alice:retry-key-of-alice,bob:retry-key-of-bob",
    settings: { PLUGINS_DIR: pluginsDir, MODELS: "echo,recorder", PARTITIONS: "1", FETCH_ALLOW_HOSTS: "127.0.0.1" },
  });
});
afterAll(() => stack.stop());

async function post(path: string, body?: unknown, headers?: Record<string, string>) {
  const response = await stack.call("POST", path, body, headers);
  return { status: response.status, headers: response.headers, json: (await response.json()) as TaskJson };
}
const retry = (id: string, headers?: Record<string, string>) => post(`/v1/tasks/${id}/retry`, undefined, headers);
async function bulk(action: "cancel" | "retry", body: object, headers?: Record<string, string>): Promise<BulkResult> {
  const { status, json } = await post(`/v1/tasks/${action}`, body, headers);
  expect([status, json]).toEqual([200, json]);
  return json as unknown as BulkResult;
}
const submitted = async (body: object, headers?: Record<string, string>): Promise<string> =>
  (await stack.submit(body, headers)).task_id;
/** Resolves when the read model lists `count` tasks. */
const listed = (query: string, count: number): Promise<string[]> =>
  stack.until(`${count} of ${query}`, 10_000, async () => {
    const { data } = (await (await stack.call("GET", `/v1/tasks?limit=100&${query}`)).json()) as { data: TaskJson[] };
    return data.length === count ? data.map((task) => task.task_id) : null;
  });
/** `count` tasks that have failed and are listed, newest first. */
async function failures(count: number, round: string): Promise<string[]> {
  const body = { model: "echo", input: { fail_times: 1 }, max_attempts: 1, metadata: { round } };
  for (let i = 0; i < count; i++) await stack.ended(await submitted(body));
  return listed(`status=FAILURE&metadata.round=${round}`, count);
}

test("a retry is a new task of the same request, which names the old one", async () => {
  const text = "x".repeat(20_000); // travels by reference
  const metadata = { order: "1" };
  const old = await submitted({ model: "echo", input: { text }, priority: "low", timeout_ms: 9_000, metadata });
  const before = await stack.ended(old);
  const { status, headers, json } = await retry(old);
  expect([status, headers.get("location")]).toEqual([202, `/v1/tasks/${json.task_id}`]);
  expect(json).toMatchObject({ status: "PENDING", retry_of: old, urls: { self: `/v1/tasks/${json.task_id}` } });
  expect(json.task_id).not.toBe(old);
  const after = await stack.ended(json.task_id);
  expect(after).toMatchObject({
    status: "SUCCESS",
    result: { echo: { text } },
    priority: "low",
    metadata,
    retry_of: old,
  });
  expect(await stack.read(old)).toEqual(before);
  // Without an Idempotency-Key each call makes one, and it says whose it is before it has ended, too.
  const sleeper = await submitted({ model: "echo", input: { sleep_ms: 3_600_000 } });
  expect((await stack.call("DELETE", `/v1/tasks/${sleeper}`)).status).toBe(202);
  await stack.ended(sleeper);
  const [one, two] = [await retry(sleeper), await retry(sleeper)];
  expect(two.json.task_id).not.toBe(one.json.task_id);
  for (const { json } of [one, two]) {
    expect(await stack.started(json.task_id)).toMatchObject({ retry_of: sleeper });
    expect((await stack.call("DELETE", `/v1/tasks/${json.task_id}`)).status).toBe(202);
    expect(await stack.ended(json.task_id)).toMatchObject({ status: "CANCELLED", retry_of: sleeper });
  }
});

test("a retry tells its end where the old one did", async () => {
  const receiver = startReceiver();
  try {
    const callback = { callback_url: receiver.url, callback_events: ["started", "completed"] };
    const old = await submitted({ model: "echo", input: {}, ...callback });
    await stack.ended(old);
    await receiver.count(2);
    const { json } = await retry(old);
    await receiver.count(4);
    const told = receiver.got.map(({ body }) => JSON.parse(body) as { type: string; data: { task_id: string } });
    expect(told.filter(({ data }) => data.task_id === json.task_id).map(({ type }) => type)).toContain(
      "task.completed",
    );
    expect(told.filter(({ data }) => data.task_id === json.task_id)).toHaveLength(2);
  } finally {
    await receiver.stop();
  }
});

test("with an Idempotency-Key a retry is made once", async () => {
  const [old = "", another = ""] = await failures(2, "key");
  const key = { "idempotency-key": "retry-1" };
  const [first, second] = [await retry(old, key), await retry(old, key)];
  expect([first.status, second.status]).toEqual([202, 200]);
  expect(second.json.task_id).toBe(first.json.task_id);
  expect(second.headers.get("idempotency-replayed")).toBe("true");
  expect(await retry(another, key)).toMatchObject({ status: 422, json: { code: "idempotency_mismatch" } });
});

test("what has not ended, is another's, or is no longer kept, is not retried", async () => {
  const open = await submitted({ model: "echo", input: { sleep_ms: 3_600_000 } });
  expect(await retry(open)).toMatchObject({ status: 409, json: { code: "task_not_finished" } });
  expect((await stack.call("DELETE", `/v1/tasks/${open}`)).status).toBe(202);
  await stack.ended(open);
  expect(await retry(open, other)).toMatchObject({ status: 404, json: { code: "task_not_found" } });
  expect(await retry("nonsense")).toMatchObject({ status: 404, json: { code: "task_not_found" } });
  const job = await readLast(stack.bus, streams.jobs(0), subjects.anyJob(0, open), 5_000);
  await deleteRecord(stack.bus, streams.jobs(0), job?.sequence ?? 0);
  expect(await retry(open)).toMatchObject({ status: 410, json: { code: "input_expired" } });
});

test("a bulk retry drives dead letters again, each once, page by page", async () => {
  const dead = await failures(3, "dead");
  await stack.ended(await submitted({ model: "echo", input: {}, metadata: { round: "dead" } }));
  const filter = { metadata: { round: "dead" }, model: "echo" };
  expect(await bulk("retry", { filter }, other)).toMatchObject({ accepted: 0, data: [], has_more: false });
  const first = await bulk("retry", { filter, limit: 2 });
  expect(first).toMatchObject({ accepted: 2, skipped: 0, failed: 0, has_more: true });
  expect(first.data.map((item) => item.task_id)).toEqual(dead.slice(0, 2));
  const second = await bulk("retry", { filter, limit: 2, cursor: first.next_cursor });
  expect(second).toMatchObject({ accepted: 1, has_more: false, next_cursor: null });
  const made = [...first.data, ...second.data].map((item) => item.retried_as ?? "");
  for (const [index, id] of made.entries()) expect(await stack.ended(id)).toMatchObject({ retry_of: dead[index] });
  // The same call again: the old ones are left alone, their retries have failed as well and are new.
  await listed("status=FAILURE&metadata.round=dead", 6);
  const again = await bulk("retry", { filter });
  expect(again).toMatchObject({ accepted: 3, skipped: 3, failed: 0 });
  const skipped = again.data.filter((item) => item.outcome === "skipped");
  expect(skipped.map((item) => [item.task_id, item.retried_as])).toEqual(dead.map((id, index) => [id, made[index]]));
});

test("a bulk cancel ends what matches and is open, and nothing else", async () => {
  const file = join(stack.dataDir, "ran");
  const body = { model: "recorder", input: { file, name: "b", sleep_ms: 3_600_000 }, metadata: { round: "stop" } };
  const running = await submitted(body);
  await stack.started(running);
  const waiting = [await submitted(body), await submitted(body)];
  const spared = await submitted({ ...body, metadata: { round: "go" } });
  const foreign = await submitted(body, other);
  await listed("metadata.round=stop", 3);
  const filter = { metadata: { round: "stop" } };
  expect((await bulk("cancel", { filter: { ...filter, status: "STARTED" } })).data).toEqual([
    { task_id: running, outcome: "accepted" },
  ]);
  const rest = await bulk("cancel", { filter });
  expect(rest.data.filter((item) => item.outcome === "accepted").map((item) => item.task_id)).toEqual(
    expect.arrayContaining(waiting),
  );
  for (const id of [running, ...waiting]) expect((await stack.ended(id)).status).toBe("CANCELLED");
  expect(["PENDING", "STARTED"]).toContain((await stack.read(spared)).status);
  expect((await stack.call("GET", `/v1/tasks/${foreign}`, undefined, other)).status).toBe(200);
  expect((await bulk("cancel", { filter: {} })).data.map((item) => item.task_id)).toContain(spared);
  expect(await bulk("cancel", { filter: {} }, other)).toMatchObject({ accepted: 1, failed: 0 });
  for (const id of [spared]) expect((await stack.ended(id)).status).toBe("CANCELLED");
});

test.each([
  ["cancel", {}, "/filter"],
  ["cancel", { filter: { stauts: "PENDING" } }, "/filter/stauts"],
  ["cancel", { filter: { status: "SUCCESS" } }, "/filter/status"],
  ["retry", { filter: { status: "PENDING" } }, "/filter/status"],
  ["retry", { filter: {}, limit: 1_001 }, "/limit"],
  ["retry", { filter: {}, cursor: "bm90LW9uZQ" }, "/cursor"],
  ["retry", { filter: { q: "   " } }, "/filter/q"],
  ["retry", { filter: { created_after: "2026-02-30T00:00:00Z" } }, "/filter/created_after"],
] as const)("a bulk %s of %j is refused", async (action, body, path) => {
  const { status, json } = await post(`/v1/tasks/${action}`, body);
  const { code, errors } = json as unknown as { code: string; errors: { path: string }[] };
  expect([status, code]).toEqual([422, "invalid_request"]);
  expect(errors.map((error) => error.path)).toContain(path);
});
