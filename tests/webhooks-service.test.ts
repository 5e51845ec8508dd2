// Webhooks of the whole service: processes are killed at the worst moments, and every end is told all the same.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readLast } from "../src/bus/log.ts";
import { streams, subjects } from "../src/bus/subjects.ts";
import { partitionOf } from "../src/ids.ts";
import { readExposition } from "./exposition.ts";
import { type Receiver, startReceiver, verified } from "./receiver.ts";
import { type Stack, startStack } from "./stack.ts";

let dataDir: string;
let stack: Stack;
let receiver: Receiver;

const settings = {
  MODELS: "echo",
  PARTITIONS: "2",
  FETCH_ALLOW_HOSTS: "127.0.0.1",
  WEBHOOK_RETRIES: "200ms,200ms,200ms,2s,2s,2s,2s,2s",
};
const start = (): Promise<Stack> => startStack({ dataDir, settings, apiKeys: "test:test-key,another:another-key" });

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace webhooks "));
  stack = await start();
  receiver = startReceiver();
});
afterAll(async () => {
  await stack.stop();
  await receiver.stop();
  await rm(dataDir, { recursive: true, force: true });
});

interface DeliveryJson {
  readonly webhook_id: string;
  readonly url: string;
  readonly status: string;
  readonly next_attempt_at: string | null;
  readonly attempts: readonly { readonly status_code: number | null; readonly error: string | null }[];
}

const deliveryOf = async (taskId: string): Promise<DeliveryJson | undefined> => {
  const response = await stack.call("GET", `/v1/tasks/${taskId}/deliveries`).catch(() => null);
  return response?.ok ? ((await response.json()) as { data: DeliveryJson[] }).data[0] : undefined;
};
const delivery = (taskId: string, holds: (delivery: DeliveryJson) => boolean): Promise<DeliveryJson> =>
  stack.until(`delivery of ${taskId}`, 20_000, async () => {
    const found = await deliveryOf(taskId);
    return found && holds(found) ? found : null;
  });
const secretOf = async (): Promise<string> => {
  const secrets = await stack.call("GET", "/v1/webhooks/secrets");
  return ((await secrets.json()) as { data: { secret: string }[] }).data[0]?.secret ?? "";
};

test("all is told: started and progress on the way, completed with the result; and again by hand", async () => {
  const { task_id } = await stack.submit({
    model: "echo",
    input: { text: "hello", sleep_ms: 50 },
    callback_url: `${receiver.url}?token=secret`,
    callback_events: ["started", "progress", "completed"],
  });
  const told = await delivery(task_id, ({ status }) => status === "delivered");
  expect(told.url).toBe(receiver.url);
  await receiver.count(2);
  const secret = await secretOf();
  const bodies = receiver.got.map((received) => verified(received, secret));
  expect(bodies.map(({ type }) => type)).toContain("task.started");
  const completed = bodies.find(({ type }) => type === "task.completed");
  expect(completed?.data).toEqual(await stack.read(task_id));

  const metrics = await stack.until("the attempt is counted", 5_000, async () => {
    const found = readExposition(await (await stack.call("GET", "/metrics")).text());
    return found.value("millrace_webhook_attempts_total", 'outcome="delivered"') === 1 ? found : null;
  });
  expect(metrics.value("millrace_webhook_attempts_total", 'outcome="failed"')).toBe(0);

  const before = receiver.got.length;
  expect((await stack.call("POST", `/v1/tasks/${task_id}/deliveries`)).status).toBe(202);
  await receiver.count(before + 1);
  expect(receiver.got.at(-1)).toMatchObject({ id: told.webhook_id, path: "/hook?token=secret" });
  expect((await delivery(task_id, ({ attempts }) => attempts.length === 2)).status).toBe("delivered");
});

test("on the way a task is told of as GET shows it, with its times and what it repeats", async () => {
  const input = { sleep_ms: 60_000 };
  const times = { delay_ms: 1, deadline: new Date(Date.now() + 3_600_000).toISOString() };
  const callback = { callback_url: receiver.url, callback_events: ["started"] };
  const first = await stack.submit({ model: "echo", input, ...times, ...callback, metadata: { order: "4711" } });
  const toldOf = async (task_id: string) => {
    const ofTask = () => receiver.got.filter(({ body }) => body.includes(task_id));
    await receiver.until(() => ofTask().length > 0);
    const secret = await secretOf();
    const [{ type, data } = { type: "none", data: null }] = ofTask().map((received) => verified(received, secret));
    expect(type).toBe("task.started");
    expect(data).toEqual(await stack.read(task_id));
    expect((await stack.call("DELETE", `/v1/tasks/${task_id}`)).status).toBe(202);
    await stack.ended(task_id);
    return data;
  };
  expect(await toldOf(first.task_id)).toMatchObject({ run_at: expect.any(String), deadline: times.deadline });
  const retried = await stack.call("POST", `/v1/tasks/${first.task_id}/retry`);
  const { task_id } = (await retried.json()) as { task_id: string };
  expect(await toldOf(task_id)).toMatchObject({ retry_of: first.task_id });
});

test("of a task of another key nothing is told, shown or sent again", async () => {
  const { task_id } = await stack.submit({ model: "echo", input: {}, callback_url: receiver.url });
  await delivery(task_id, ({ status }) => status === "delivered");
  const before = receiver.got.length;
  for (const method of ["GET", "POST"]) {
    const path = `/v1/tasks/${task_id}/deliveries`;
    const response = await stack.call(method, path, undefined, { "x-api-key": "another-key" });
    expect([response.status, (await response.json()) as object]).toMatchObject([404, { code: "task_not_found" }]);
  }
  expect(receiver.got.length).toBe(before);
});

test("of a task without a callback_url there is nothing to show or to send", async () => {
  const { task_id } = await stack.submit({ model: "echo", input: {} });
  await stack.ended(task_id);
  const shown = await stack.call("GET", `/v1/tasks/${task_id}/deliveries`);
  expect(await shown.json()).toEqual({ object: "list", data: [] });
  const sent = await stack.call("POST", `/v1/tasks/${task_id}/deliveries`);
  expect([sent.status, (await sent.json()) as object]).toMatchObject([409, { code: "no_delivery" }]);
});

test("a failed and a cancelled task are told too, and a retry of one", async () => {
  const callback_url = receiver.url;
  const failing = await stack.submit({ model: "echo", input: { fail_times: 1 }, max_attempts: 1, callback_url });
  await delivery(failing.task_id, ({ status }) => status === "delivered");
  const running = await stack.submit({ model: "echo", input: { sleep_ms: 60_000 }, callback_url });
  await stack.started(running.task_id);
  const waiting = await stack.submit({ model: "echo", input: {}, delay_ms: 60_000, callback_url });
  for (const cancelled of [running, waiting]) {
    expect((await stack.call("DELETE", `/v1/tasks/${cancelled.task_id}`)).status).toBe(202);
    await delivery(cancelled.task_id, ({ status }) => status === "delivered");
  }
  const retried = await stack.call("POST", `/v1/tasks/${failing.task_id}/retry`);
  const { task_id } = (await retried.json()) as { task_id: string };
  await delivery(task_id, ({ status }) => status === "delivered");
  const told = new Map(
    receiver.got.map(({ body }) => {
      const { data } = JSON.parse(body) as { data: { task_id: string; status: string } };
      return [data.task_id, data.status];
    }),
  );
  expect([failing, running, waiting, { task_id }].map((task) => told.get(task.task_id))).toEqual([
    "FAILURE",
    "CANCELLED",
    "CANCELLED",
    "FAILURE",
  ]);
});

test("a gateway killed between the result and the webhook: the next one sends it, once", async () => {
  const { task_id } = await stack.submit({ model: "echo", input: { sleep_ms: 300 }, callback_url: receiver.url });
  const gateway = await stack.pidOf("gateway");
  process.kill(gateway, "SIGSTOP");
  const partition = partitionOf(task_id, 2);
  await stack.until("the result", 10_000, () =>
    readLast(stack.bus, streams.results(partition), subjects.anyResult(partition, task_id), 5_000),
  );
  process.kill(gateway, "SIGKILL");
  const told = await delivery(task_id, ({ status }) => status === "delivered");
  expect(told.attempts.map(({ status_code }) => status_code)).toEqual([204]);
  expect(receiver.got.filter(({ id }) => id === told.webhook_id).length).toBe(1);
});

test("kill -9 of everything while the receiver is down: it is told when both are back", async () => {
  receiver.answer(() => new Response(null, { status: 503 }));
  const { task_id } = await stack.submit({ model: "echo", input: { text: "kept" }, callback_url: receiver.url });
  const before = await delivery(task_id, ({ attempts }) => attempts.length > 0);
  expect(before).toMatchObject({ status: "pending", attempts: [{ status_code: 503 }] });
  await stack.kill();
  await stack.stop();
  receiver.answer(() => new Response(null, { status: 204 }));
  stack = await start();
  const after = await delivery(task_id, ({ status }) => status === "delivered");
  expect(after.webhook_id).toBe(before.webhook_id);
  expect(after.attempts.at(-1)).toMatchObject({ status_code: 204 });
  const last = receiver.got.at(-1);
  expect(last && verified(last, await secretOf()).data).toEqual(await stack.read(task_id));
});

test("neither secrets nor the query of a URL stand in the log", () => {
  const log = JSON.stringify(stack.log());
  expect(log).toContain("webhook delivered");
  expect(log).not.toMatch(/whsec_|token=secret|development-webhook-secret/);
});
