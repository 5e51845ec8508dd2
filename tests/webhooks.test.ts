// Webhooks without HTTP and without actors: a real broker, SQLite and receivers, tasks ended by hand, the clock in the
// test's hand. What the whole service makes of it is in tests/webhooks-service.test.ts.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type Db, openKept } from "../src/db/db.ts";
import { silentLog } from "../src/log.ts";
import { type SenderOptions, sendHere } from "../src/webhooks/sender.ts";
import { createWebhooks, type Webhooks } from "../src/webhooks/webhooks.ts";
import { owner, startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";
import { type Answer, type Receiver, startReceiver, verified } from "./receiver.ts";

const HOUR_MS = 3_600_000;
const secrets = ["the operator's newest secret", "the operator's older secret"];
const rules = { allowHosts: ["127.0.0.1"], httpsOnly: false };

let tasks: TestTasks;
let db: Db;
let webhooks: Webhooks;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  tasks = await startGatewayTasks({ partitions: 2, taskTtlMs: 24 * HOUR_MS });
  db = await openKept({ dataDir: tasks.folder, databaseUrl: null });
  webhooks = createWebhooks({ sql: db.sql, secrets, rules, clock: tasks.clock });
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(async () => {
  await db.close();
  await tasks.stop();
});

const receiver = (answer?: Answer): Receiver => {
  const started = startReceiver(answer);
  cleanups.push(() => started.stop());
  return started;
};
const sender = async (options: Partial<SenderOptions> = {}) => {
  const started = await sendHere({
    bus: tasks.bus,
    sql: db.sql,
    partitions: tasks.partitions,
    secrets,
    retryMs: [5_000, 300_000],
    rules,
    keepMs: 30 * 24 * HOUR_MS,
    clock: tasks.clock,
    random: () => 0,
    log: silentLog,
    ...options,
  });
  cleanups.push(() => started.stop());
  return started;
};
/** A task that has ended, to be told at `url`. */
const ended = async (url?: string, result: unknown = {}): Promise<string> => {
  const { taskId } = await tasks.submit(url === undefined ? {} : { callback_url: url });
  await tasks.end(taskId, { result });
  return taskId;
};
/** The task's delivery once it stands and `holds` of it. */
const delivery = async (taskId: string, holds: (state: string, attempts: number) => boolean) => {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const [found] = await webhooks.deliveries(taskId, owner.keyId);
    if (found && holds(found.state, found.attempts.length)) return found;
    if (performance.now() > deadline) throw new Error(`the delivery is ${JSON.stringify(found)}`);
    await tasks.bus.flush(5_000);
  }
};
const settled = (taskId: string) => delivery(taskId, (state) => state !== "pending");

test("an end is told once, signed so that the official library verifies it, with the task as it is read", async () => {
  const got = receiver();
  await sender();
  await ended(); // asks for nothing
  const taskId = await ended(got.url, { answer: 42 });
  await settled(taskId);
  const [first] = got.got;
  const [{ secret } = { secret: "" }] = await webhooks.secrets(owner.keyId);
  const body = first && verified(first, secret);
  expect(body).toMatchObject({ type: "task.completed", data: { task_id: taskId, result: { answer: 42 } } });
  expect(JSON.stringify(body?.data)).toBe((await tasks.tasks.read(taskId, owner)).json);
  expect(got.got.length).toBe(1);
  expect(await db.sql`SELECT task_id FROM deliveries WHERE task_id <> ${taskId}`).toEqual([]);
  expect(() => first && verified({ ...first, body: first.body.replace("42", "43") }, secret)).toThrow();
});
