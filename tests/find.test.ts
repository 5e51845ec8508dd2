// Finding tasks on the whole service: pages, filters and searches of a key's own tasks.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type Stack, startStack, type TaskJson } from "./stack.ts";

setDefaultTimeout(30_000);

interface List {
  readonly object: string;
  readonly data: readonly TaskJson[];
  readonly has_more: boolean;
  readonly next_cursor: string | null;
}

const other = { "x-api-key": "find-key-of-bob" };
let stack: Stack;

beforeAll(async () => {
  const pluginsDir = join(import.meta.dir, "fixtures/plugins");
  stack = await startStack({
    apiKeys: "alice:find-key-of-alice,bob:find-key-of-bob",
    settings: { PLUGINS_DIR: pluginsDir, MODELS: "echo,refuser,recorder", PARTITIONS: "2" },
  });
});
afterAll(() => stack.stop());

async function list(query: string, headers?: Record<string, string>): Promise<List> {
  const response = await stack.call("GET", `/v1/tasks${query}`, undefined, headers);
  const text = await response.text();
  expect([response.status, text]).toEqual([200, text]);
  return JSON.parse(text) as List;
}
/** The ids of a list, once it has `count` tasks: it may lag. */
const listed = (query: string, count: number, headers?: Record<string, string>): Promise<string[]> =>
  stack.until(`${count} of ${query}`, 10_000, async () => {
    const ids = (await list(query, headers)).data.map((task) => task.task_id);
    return ids.length === count ? ids : null;
  });
const submit = async (body: object, headers?: Record<string, string>): Promise<string> =>
  (await stack.submit(body, headers)).task_id;

test("a list holds the key's own tasks, newest first, each as it is read alone", async () => {
  const done = await submit({ model: "echo", input: { text: "one" }, metadata: { round: "a" } });
  await stack.ended(done);
  const failed = await submit({ model: "echo", input: { fail_times: 9 }, max_attempts: 1, metadata: { round: "a" } });
  await stack.ended(failed);
  // Its runner takes one task at a time.
  const recorder = { model: "recorder", metadata: { round: "a" } };
  const file = join(stack.dataDir, "ran.txt");
  const running = await submit({ ...recorder, input: { file, name: "r", sleep_ms: 3_600_000 } });
  await stack.started(running);
  const waiting = await submit({ ...recorder, input: { file, name: "w" }, priority: "low" });
  const foreign = await submit({ model: "echo", input: {}, metadata: { round: "a" } }, other);

  expect(await listed("?metadata.round=a", 4)).toEqual([waiting, running, failed, done]);
  const page = await list("?metadata.round=a");
  expect(page).toMatchObject({ object: "list", has_more: false, next_cursor: null });
  // Where it stands in its queue is an estimate of its moment.
  const certain = ({ queue_position: _, eta_ms: __, ...task }: TaskJson) => task;
  for (const task of page.data) expect(certain(task)).toEqual(certain(await stack.read(task.task_id)));
  expect(await listed("", 1, other)).toEqual([foreign]);

  for (const [status, ids] of [
    ["SUCCESS", [done]],
    ["FAILURE", [failed]],
    ["STARTED", [running]],
    ["PENDING", [waiting]],
    ["RETRY", []],
    ["CANCELLED", []],
  ] as const) {
    expect([status, (await list(`?status=${status}`)).data.map((task) => task.task_id)]).toEqual([status, [...ids]]);
  }
  expect(await listed("?priority=low", 1)).toEqual([waiting]);
  expect(await listed("?model=recorder", 2)).toEqual([waiting, running]);
  expect((await stack.call("DELETE", `/v1/tasks/${running}`)).status).toBe(202);
  await stack.ended(waiting);
});

test("a cursor goes on where the page ended, whatever has come since", async () => {
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) {
    ids.unshift(await submit({ model: "echo", input: { text: `page ${i}` }, metadata: { round: "pages" } }));
    await stack.ended(ids[0] ?? "");
  }
  await listed("?metadata.round=pages", 5);
  const first = await list("?metadata.round=pages&limit=2");
  expect(first.data.map((task) => task.task_id)).toEqual(ids.slice(0, 2));
  expect(first.has_more).toBe(true);
  await stack.ended(await submit({ model: "echo", input: {}, metadata: { round: "pages" } }));
  await listed("?metadata.round=pages", 6);
  const second = await list(`?metadata.round=pages&limit=2&cursor=${first.next_cursor}`);
  const third = await list(`?metadata.round=pages&limit=2&cursor=${second.next_cursor}`);
  expect([...second.data, ...third.data].map((task) => task.task_id)).toEqual(ids.slice(2));
  expect(third).toMatchObject({ has_more: false, next_cursor: null });
  // Another key's cursor is a place in one's own list.
  expect((await list(`?metadata.round=pages&cursor=${first.next_cursor}`, other)).data).toEqual([]);

  const { created_at } = await stack.read(ids[2] ?? "");
  const at = encodeURIComponent(String(created_at));
  expect((await list(`?metadata.round=pages&created_before=${at}`)).data.map((task) => task.task_id)).toEqual(
    ids.slice(3),
  );
  expect((await list(`?metadata.round=pages&created_after=${at}`)).data.at(-1)?.task_id).toBe(ids[2] ?? "");
});

test("a search finds words of the input and of the error, of this key alone", async () => {
  const input = await submit({ model: "echo", input: { text: "Gärten bei Nacht, 100%_sicher" } });
  const large = await submit({ model: "echo", input: { text: `giganten ${"x".repeat(20_000)}` } });
  const failed = await submit({ model: "refuser", input: {} });
  await submit({ model: "echo", input: { text: "gärten" } }, other);
  for (const id of [input, large, failed]) await stack.ended(id);
  const error = (await stack.read(failed)).error;
  expect(await listed(`?q=${encodeURIComponent("NACHT gÄrt")}`, 1)).toEqual([input]);
  expect(await listed(`?q=${encodeURIComponent("100%_s")}`, 1)).toEqual([input]);
  expect(await listed(`?q=${encodeURIComponent(error?.message ?? "?")}`, 1)).toEqual([failed]);
  expect(await listed(`?q=${error?.code}`, 1)).toEqual([failed]);
  for (const none of ["gärten tag", "0__", "giganten", "text"]) {
    expect([none, (await list(`?q=${encodeURIComponent(none)}`)).data]).toEqual([none, []]);
  }
});

test.each([
  ["?limit=0", "/limit"],
  ["?limit=101", "/limit"],
  ["?limit=1e2", "/limit"],
  ["?stauts=FAILURE", "/stauts"],
  ["?status=failure", "/status"],
  ["?status=FAILURE&status=SUCCESS", "/status"],
  ["?q=", "/q"],
  [`?q=${"a+".repeat(11)}`, "/q"],
  ["?metadata=x", "/metadata"],
  ["?metadata.=x", "/metadata"],
  ["?metadata.a%2Fb=x", "/metadata"],
  ["?__proto__=x", "/__proto__"],
  ["?created_after=yesterday", "/created_after"],
  ["?created_after=2026-02-30T00:00:00Z", "/created_after"],
  ["?cursor=%F0%28%8C%28", "/cursor"],
  ["?cursor=bm90LW9uZQ", "/cursor"],
])("%s is refused, and says which name", async (query, path) => {
  const response = await stack.call("GET", `/v1/tasks${query}`);
  const problem = (await response.json()) as { code: string; errors: { path: string }[] };
  expect([response.status, problem.code]).toEqual([422, "invalid_request"]);
  expect(problem.errors.map((error) => error.path.slice(0, path.length))).toContain(path);
});
