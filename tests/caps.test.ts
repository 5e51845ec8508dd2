// What a key may have waiting: over several gateways on one read model, whose error is stated and seen here, and on every
// way into the whole service.
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { subjects } from "../src/bus/subjects.ts";
import { asAppError } from "../src/errors.ts";
import type { Tasks } from "../src/tasks/tasks.ts";
import { startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";
import { startStack, until } from "./stack.ts";

setDefaultTimeout(60_000);

describe("gateways", () => {
  const tasksMax = 20;
  let first: TestTasks;
  afterEach(async () => {
    await first.bus.flush(5_000); // the bells of what was accepted last
    await first.stop();
  });

  /** Ids of those of `count` tasks that were accepted; the others were refused for lack of room. */
  const accept = async (tasks: Tasks, count: number, fields: object = {}): Promise<string[]> => {
    const request = { model: "echo", input: {}, ...fields };
    const asked = Array.from({ length: count }, () => tasks.accept(request, { keyId: "busy" }, null));
    const outcomes = await Promise.allSettled(asked);
    const refused = outcomes.flatMap((each) => (each.status === "rejected" ? [asAppError(each.reason)?.code] : []));
    expect(new Set(refused).difference(new Set(["too_many_queued"]))).toEqual(new Set());
    return outcomes.flatMap((each) => (each.status === "fulfilled" ? [each.value.taskId] : []));
  };
  const inReadModel = (count: number): Promise<true> =>
    until("the read model", 20_000, async () => {
      const [row] = await first.sql`SELECT count(*) AS open FROM tasks WHERE key_id = 'busy' AND finished_ms IS NULL`;
      return Number(row.open) === count ? true : null;
    });

  test("each holds to the limit alone, and all of them once the read model knows; ends make room", async () => {
    first = await startGatewayTasks({ partitions: 2, taskTtlMs: 3_600_000, caps: { tasksMax, bytesMax: 0 } });
    const second = await first.join();
    const [one, two] = await Promise.all([accept(first.tasks, 50), accept(second, 50)]);
    expect([one.length, two.length]).toEqual([tasksMax, tasksMax]);
    await inReadModel(2 * tasksMax);
    const third = await first.join();
    const before = await accept(third, 8); // as long as it has not looked
    expect(before.length).toBeLessThanOrEqual(8);
    first.advance(2_000);
    expect(await accept(third, 5)).toEqual([]);
    expect(await accept(first.tasks, 5)).toEqual([]);
    const all = [...one, ...two, ...before];
    for (const id of all.slice(0, all.length - 5)) await first.end(id);
    await inReadModel(5);
    first.advance(2_000);
    expect(await accept(third, 50)).toHaveLength(tasksMax - 5);
  });

  test("what waits for its time counts; a replay is answered when there is no room, another body is told so", async () => {
    first = await startGatewayTasks({ partitions: 2, taskTtlMs: 3_600_000, caps: { tasksMax: 3, bytesMax: 0 } });
    const run_at = new Date(first.clock.now() + 3_600_000).toISOString();
    const named = { run_at, client_request_id: "named" };
    const [id = ""] = await accept(first.tasks, 1, named);
    const [alsoId = ""] = await accept(first.tasks, 1, { client_request_id: "also" });
    const second = await first.join();
    expect(await accept(second, 1, named)).toEqual([id]);
    expect(await accept(second, 1, { client_request_id: "also" })).toEqual([alsoId]);
    const beside = await accept(second, 2);
    expect(beside).toHaveLength(2); // replays have taken no room of its three
    expect(await accept(first.tasks, 1)).toHaveLength(1);
    expect(await accept(first.tasks, 3)).toEqual([]);
    expect(await accept(first.tasks, 3, named)).toEqual([id, id, id]);
    const other = { model: "echo", input: { text: "other" }, ...named };
    await expect(first.tasks.accept(other, { keyId: "busy" }, null)).rejects.toMatchObject({
      code: "idempotency_mismatch",
    });
    for (const each of [id, alsoId, ...beside]) await first.end(each);
    await until("room", 10_000, async () => ((await accept(first.tasks, 1)).length === 1 ? true : null));
  });

  test("bytes of inputs are counted as they stand in rows, in the log or in the store", async () => {
    first = await startGatewayTasks({ partitions: 1, taskTtlMs: 3_600_000, caps: { tasksMax: 0, bytesMax: 100_000 } });
    const text = (chars: number) => ({ input: "x".repeat(chars - 2) });
    expect(await accept(first.tasks, 4, text(30_000))).toHaveLength(3);
    expect(await accept(first.tasks, 2, text(10_000))).toHaveLength(1);
    await inReadModel(4);
    const [row] = await first.sql`SELECT sum(input_bytes) AS bytes FROM tasks`;
    expect(Number(row.bytes)).toBe(100_000);
    const second = await first.join();
    await accept(second, 8, { input: "" });
    first.advance(2_000);
    expect(await accept(second, 1, text(1_000))).toEqual([]);
  });
});

test("every way in answers 429 too_many_queued with Retry-After, and another key goes on", async () => {
  const dir = await mkdtemp(join(tmpdir(), "millrace caps "));
  const settings = {
    PLUGINS_DIR: join(import.meta.dir, "fixtures/plugins"),
    MODELS: "echo,gated",
    MAX_QUEUED_TASKS: "5",
  };
  const stack = await startStack({ settings, apiKeys: "busy:key-of-busy,calm:key-of-calm" });
  try {
    const echo = { model: "echo", input: {} };
    const ended = await stack.submit({ ...echo, client_request_id: "first" });
    await stack.ended(ended.task_id);
    const gated = { model: "gated", input: { dir, gated_attempts: [1] } };
    const batch = await stack.call("POST", "/v1/tasks/batch", { tasks: Array(8).fill(gated) });
    const { results } = (await batch.json()) as { results: { status: number; problem?: { code: string } }[] };
    expect(results.map(({ status }) => status).toSorted()).toEqual([202, 202, 202, 202, 202, 429, 429, 429]);
    const refused = await stack.call("POST", "/v1/tasks", echo);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "5"]);
    expect(await refused.json()).toMatchObject({
      code: "too_many_queued",
      retryable: true,
      detail: expect.stringContaining("5 tasks"),
    });
    const retried = await stack.call("POST", `/v1/tasks/${ended.task_id}/retry`);
    expect(((await retried.json()) as { code: string }).code).toBe("too_many_queued");
    const headers = { "x-api-key": "key-of-busy" };
    const onNats = await stack.bus.request(subjects.submit, JSON.stringify(echo), { timeoutMs: 5_000, headers });
    expect(JSON.parse(onNats.text())).toMatchObject({ code: "too_many_queued" });
    const replay = await stack.call("POST", "/v1/tasks", { ...echo, client_request_id: "first" });
    expect([replay.status, replay.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
    expect((await stack.call("POST", "/v1/tasks", echo, { "x-api-key": "key-of-calm" })).status).toBe(202);
    await writeFile(join(dir, "open-1"), "");
    await until("room", 20_000, async () =>
      (await stack.call("POST", "/v1/tasks", echo)).status === 202 ? true : null,
    );
  } finally {
    await stack.stop();
    await rm(dir, { recursive: true, force: true });
  }
});
