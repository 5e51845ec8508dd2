// Webhooks of the whole service: processes are killed at the worst moments, and every end is told all the same.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readExposition } from "./exposition.ts";
import { type Receiver, startReceiver, verified } from "./receiver.ts";
import { type Stack, startStack } from "./stack.ts";

let dataDir: string;
let stack: Stack;
let receiver: Receiver;

const settings = { MODELS: "echo", FETCH_ALLOW_HOSTS: "127.0.0.1", WEBHOOK_RETRIES: "200ms,200ms,5s,5s,5s,5s" };
const start = (): Promise<Stack> => startStack({ dataDir, settings });

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
