// The logs are full. New work is refused before results have no room left; what was accepted still ends; and an actor
// whose result finds no room keeps it, without inferring again, until there is some.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { folderBlobs } from "../../src/blobs/folder.ts";
import { subjects } from "../../src/bus/subjects.ts";
import { systemClock } from "../../src/clock.ts";
import { createAccept } from "../../src/tasks/accept.ts";
import { type Stack, startStack, until } from "../stack.ts";
import { endsOf, tokensOf } from "./records.ts";

setDefaultTimeout(60_000);

let stack: Stack;
let dir = "";

beforeAll(async () => {
  const PLUGINS_DIR = join(import.meta.dir, "../fixtures/plugins");
  stack = await startStack({ settings: { PARTITIONS: "1", MODELS: "echo,gated", PLUGINS_DIR } });
});
afterAll(() => stack.stop());
beforeEach(async () => {
  dir = await mkdtemp(join(stack.dataDir, "gates "));
});

/** Sets how many bytes a stream may hold; resolves to what it was. */
async function setBytesMax(stream: string, bytesMax: number): Promise<number> {
  const manager = await jetstreamManager(stack.bus.connection);
  const { config } = await manager.streams.info(stream);
  await manager.streams.update(stream, { ...config, max_bytes: bytesMax });
  return config.max_bytes;
}

async function bytesOf(stream: string): Promise<number> {
  const manager = await jetstreamManager(stack.bus.connection);
  return (await manager.streams.info(stream)).state.bytes;
}

const begun = (taskId: string): Promise<true> =>
  until(`start of ${taskId}`, 20_000, async () =>
    (await readFile(join(dir, `ran-${taskId}`), "utf8").catch(() => "")) === "" ? null : true,
  );

const open = (attempt: number): Promise<void> => writeFile(join(dir, `open-${attempt}`), "");
const submit = (text: string): Promise<Response> => stack.call("POST", "/v1/tasks", { model: "echo", input: { text } });

/** A `gated` task accepted as by a gateway that does not know yet how full the logs are. */
async function acceptPastTheGateway(): Promise<string> {
  const blobs = folderBlobs(join(stack.dataDir, "blobs"));
  const accept = createAccept({
    bus: stack.bus,
    blobs,
    partitions: 1,
    clock: systemClock,
    isFull: () => false,
    place: () => ({ lane: "a", giveBack: () => {} }),
    takeRoom: () => ({ giveBack: () => {} }),
    callbackProblem: () => null,
  });
  const { job } = await accept({ model: "gated", input: { dir } }, { keyId: "test" }, null);
  return job.id;
}

/** Resolves when `count` messages have been published to the subject from now on, stored or not. */
function publishes(subject: string, count: number): Promise<void> {
  const seen = Promise.withResolvers<void>();
  let left = count;
  const subscription = stack.bus.subscribe(subject, () => {
    if (--left === 0) seen.resolve();
  });
  return seen.promise.finally(() => subscription.unsubscribe());
}

test("above 80% of JOBS new tasks are refused with 503 and Retry-After; those accepted end; then it takes again", async () => {
  const request = { model: "gated", input: { dir, gated_attempts: [1] }, client_request_id: "before" };
  const running = await stack.submit(request);
  await begun(running.task_id);
  const accepted = [running.task_id];
  const roomy = await setBytesMax("JOBS_0", (await bytesOf("JOBS_0")) + 400_000);
  const refusal = await until("a refusal", 30_000, async () => {
    const response = await submit("x".repeat(10_000));
    if (response.status !== 202) return response;
    accepted.push(((await response.json()) as { task_id: string }).task_id);
    return null;
  });
  expect(refusal.status).toBe(503);
  expect(Number(refusal.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await refusal.json()).toMatchObject({ code: "queue_full", status: 503 });
  // Until the gateway has looked the broker itself refuses.
  await until("the gateway's own refusal", 10_000, async () => {
    const response = await submit("small");
    const { detail } = (await response.json()) as { detail: string };
    return response.status === 503 && detail.includes("nearly full") ? true : null;
  });
  const replay = await stack.call("POST", "/v1/tasks", request);
  expect([replay.status, replay.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
  expect(await replay.json()).toMatchObject({ task_id: running.task_id });

  await open(1);
  for (const taskId of accepted) expect(await stack.ended(taskId)).toMatchObject({ status: "SUCCESS" });
  await setBytesMax("JOBS_0", roomy);
  const taken = await until("room", 10_000, async () => {
    const response = await submit("again");
    return response.status === 202 ? ((await response.json()) as { task_id: string }) : null;
  });
  expect(await stack.ended(taken.task_id)).toMatchObject({ status: "SUCCESS" });
});

test("RESULTS without room: the actor keeps the result, takes no new job, and infers once", async () => {
  const first = await stack.submit({ model: "gated", input: { dir, gated_attempts: [1] } });
  await begun(first.task_id);
  const roomy = await setBytesMax("RESULTS_0", (await bytesOf("RESULTS_0")) + 10);
  const full = stack.logged({ message: "the log of results is full: no new jobs until it has room" });
  await open(1);
  await full;
  const second = await acceptPastTheGateway();
  await publishes(subjects.result(0, "gated", "success", first.task_id), 4); // each of them refused
  expect(await stack.read(first.task_id)).toMatchObject({ status: "STARTED", attempt: 1 });
  expect(await stack.read(second)).toMatchObject({ status: "PENDING" });

  await setBytesMax("RESULTS_0", roomy);
  expect(await stack.ended(first.task_id)).toMatchObject({ status: "SUCCESS", attempt: 1 });
  expect(await stack.ended(second)).toMatchObject({ status: "SUCCESS", attempt: 1 });
  expect(await readFile(join(dir, `ran-${first.task_id}`), "utf8")).toBe("1\n");
  const ends = await endsOf(stack.bus);
  expect([tokensOf(ends, first.task_id), tokensOf(ends, second)]).toEqual([["success"], ["success"]]);
});
