// `kill -9` of each process in turn while work is under way: what was answered with 202 ends exactly once, and the same
// client_request_id meets the same task. Durable mode, since the broker is among the killed.
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { folderBlobs } from "../../src/blobs/folder.ts";
import { ACK_WAIT_MS } from "../../src/bus/queues.ts";
import { type Stack, startStack, type TaskJson, until } from "../stack.ts";
import { endsOf, jobsOf, tokensOf } from "./records.ts";

setDefaultTimeout(120_000);

const PLUGINS_DIR = join(import.meta.dir, "../fixtures/plugins");
const settings = { DURABILITY: "fsync", PARTITIONS: "2", MODELS: "echo,gated,gated-alone", PLUGINS_DIR };
let dir = "";
const stacks: Stack[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "millrace killed "));
  await mkdir(join(dir, "data"));
});
afterEach(async () => {
  await Promise.all(stacks.splice(0).map((stack) => stack.stop()));
  await rm(dir, { recursive: true, force: true });
});

async function start(more: Readonly<Record<string, string>> = {}): Promise<Stack> {
  const stack = await startStack({ settings: { ...settings, ...more }, dataDir: join(dir, "data") });
  stacks.push(stack);
  return stack;
}

const killNow = async (stack: Stack, name: string): Promise<void> =>
  void process.kill(await stack.pidOf(name), "SIGKILL");

interface Answered {
  readonly requestId: string;
  readonly task: TaskJson;
  /** True where an earlier try had been accepted. */
  readonly replayed: boolean;
}

/** Submits as a careful client does: the same request again until it is answered with 200 or 202. */
async function submitUntilAnswered(stack: Stack, requestId: string, request: object): Promise<Answered> {
  const body = { ...request, client_request_id: requestId };
  return until(`answer to ${requestId}`, 60_000, async () => {
    const response = await stack.call("POST", "/v1/tasks", body).catch(() => null);
    if (response === null || response.status === 503) return null;
    const text = await response.text().catch(() => null); // the connection may break within the answer
    if (text === null) return null;
    if (response.status !== 202 && response.status !== 200) throw new Error(`${response.status} ${text}`);
    const replayed = response.headers.get("idempotency-replayed") === "true";
    return { requestId, task: JSON.parse(text) as TaskJson, replayed };
  });
}

/** Attempts that a `gated` task has begun. */
async function attemptsOf(taskId: string): Promise<string[]> {
  const text = await readFile(join(dir, `ran-${taskId}`), "utf8").catch(() => "");
  return text.split("\n").filter(Boolean);
}

const begun = (taskId: string): Promise<true> =>
  until(`first attempt of ${taskId}`, 20_000, async () => ((await attemptsOf(taskId)).length > 0 ? true : null));

test("the same client_request_id is the same task after kill -9 of the broker", async () => {
  const stack = await start();
  const bodies = [
    { model: "echo", input: { text: "ended" } },
    { model: "echo", input: { text: "runs", sleep_ms: 4_000 } },
  ];
  const send = (index: number) =>
    stack.call("POST", "/v1/tasks", { ...bodies[index], client_request_id: `again-${index}` });
  const before = await Promise.all([0, 1].map(async (i) => (await (await send(i)).json()) as TaskJson));
  await stack.ended(before[0]?.task_id ?? "");
  await killNow(stack, "nats-server");
  await stack.logged({ message: "the broker died" });
  await stack.ready();
  for (const index of [0, 1]) {
    const answer = await until("answer", 20_000, async () => {
      const response = await send(index);
      return response.status === 503 ? null : response;
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("idempotency-replayed")).toBe("true");
    expect(await answer.json()).toMatchObject({ task_id: before[index]?.task_id ?? "" });
  }
  const other = await stack.call("POST", "/v1/tasks", {
    model: "echo",
    input: { text: "another body" },
    client_request_id: "again-0",
  });
  expect([other.status, ((await other.json()) as { code: string }).code]).toEqual([422, "idempotency_mismatch"]);
  for (const { task_id } of before) expect(await stack.ended(task_id)).toMatchObject({ status: "SUCCESS", attempt: 1 });
  expect([...(await jobsOf(stack.bus)).values()]).toEqual([1, 1]);
});

test.each([
  // A process has to start first, on a machine that may be busy; a lease would take 30 s.
  { gpus: "0", whose: "the same actor, started anew,", withinMs: 10_000 },
  { gpus: "0,1", whose: "another actor", withinMs: 3_000 },
])("kill -9 of an actor in the middle of infer: $whose ends the task once, at once", async ({ gpus, withinMs }) => {
  const stack = await start({ GPU_IDS: gpus });
  const { task_id: id } = await stack.submit({ model: "gated", input: { dir, gated_attempts: [1] } });
  await begun(id);
  const { actor } = (await stack.started(id)) as unknown as { actor: { gpu: string } };
  await killNow(stack, `actor-${actor.gpu}`);
  const killedAt = performance.now();
  const task = await stack.ended(id);
  const tookMs = performance.now() - killedAt;
  expect(task).toMatchObject({ status: "SUCCESS", attempt: 2, result: { attempt: 2 } });
  expect(await attemptsOf(id)).toEqual(["1", "2"]);
  expect(tokensOf(await endsOf(stack.bus), id)).toEqual(["success"]);
  expect(tookMs).toBeLessThan(withinMs);
});

test("kill -9 of the broker three times under load loses, doubles and fails nothing, nor a winner's object", async () => {
  const stack = await start({ GPU_IDS: "0,1" });
  const kills = 3;
  const tasksMax = 300;
  let submitted = 0;
  const submitting = Promise.all(
    Array.from({ length: 20 }, async (_, client) => {
      const answers: Answered[] = [];
      while (submitted < tasksMax) {
        const n = submitted++;
        const sleep_ms = n % 25 === 0 ? 3_000 : n % 40;
        answers.push(
          await submitUntilAnswered(stack, `load-${client}-${n}`, { model: "gated", input: { dir, sleep_ms } }),
        );
      }
      return answers;
    }),
  );
  for (let kill = 1; kill <= kills; kill++) {
    await until("a third of the load", 60_000, async () =>
      submitted >= (tasksMax / (kills + 1)) * kill ? true : null,
    );
    await killNow(stack, "nats-server");
    await stack.ready();
  }
  const accepted = (await submitting).flat();
  expect(new Set(accepted.map(({ task }) => task.task_id)).size).toBe(tasksMax);

  const tasks = await Promise.all(accepted.map(({ task }) => stack.ended(task.task_id, 60_000)));
  expect(tasks.filter(({ status }) => status !== "SUCCESS")).toEqual([]);
  const [jobs, ends] = await Promise.all([jobsOf(stack.bus), endsOf(stack.bus)]);
  expect([...jobs.values()].filter((count) => count !== 1)).toEqual([]);
  expect(jobs.size).toBe(tasksMax);
  expect(tasks.filter(({ task_id }) => tokensOf(ends, task_id).join() !== "success")).toEqual([]);
  await expectObjects(tasks);

  const attempts = await Promise.all(tasks.map(({ task_id }) => attemptsOf(task_id)));
  const wasted = attempts.reduce((sum, one) => sum + one.length - 1, 0);
  console.log(
    `attempts in excess: ${wasted} of ${tasksMax}, highest ${Math.max(...tasks.map((task) => task.attempt))}`,
  );
  expect(wasted).toBeLessThan(tasksMax / 10);
});

/** Each task's object is in the store, whole; and there is no other. */
async function expectObjects(tasks: readonly TaskJson[]): Promise<void> {
  const blobs = folderBlobs(join(dir, "data/blobs"));
  const stored = tasks.map((task) => task.result as { s3_key: string; sha256: string });
  const found = await Promise.all(
    stored.map(async ({ s3_key }) =>
      new Bun.CryptoHasher("sha256").update(await blobs.read(s3_key, 1_000)).digest("hex"),
    ),
  );
  expect(found).toEqual(stored.map(({ sha256 }) => sha256));
}

test("kill -9 of the gateway under load: what was answered is found, what was not is asked again", async () => {
  const stack = await start();
  const requests = Array.from({ length: 200 }, (_, n) => `gateway-${n}`);
  const before: Answered[] = [];
  const submitting = Promise.all(
    Array.from({ length: 20 }, async () => {
      for (let next = requests.pop(); next !== undefined; next = requests.pop()) {
        before.push(await submitUntilAnswered(stack, next, { model: "echo", input: { text: next, sleep_ms: 20 } }));
      }
    }),
  );
  await until("a third of the load", 30_000, async () => (before.length >= 60 ? true : null));
  await killNow(stack, "gateway");
  await submitting;
  expect(before.length).toBe(200);
  const again = await Promise.all(
    before.map(({ requestId }) =>
      submitUntilAnswered(stack, requestId, { model: "echo", input: { text: requestId, sleep_ms: 20 } }),
    ),
  );
  expect(again.filter(({ replayed }) => !replayed)).toEqual([]);
  expect(again.map(({ task }) => task.task_id)).toEqual(before.map(({ task }) => task.task_id));
  const tasks = await Promise.all(before.map(({ task }) => stack.ended(task.task_id, 60_000)));
  expect(tasks.filter(({ status, attempt }) => status !== "SUCCESS" || attempt !== 1)).toEqual([]);
  const [jobs, ends] = await Promise.all([jobsOf(stack.bus), endsOf(stack.bus)]);
  expect([jobs.size, ends.size]).toEqual([200, 200]);
  expect([...ends.values()].filter((records) => records.length !== 1)).toEqual([]);
});

test("kill -9 of the supervisor: the next `up` on the folder finishes what ran and what waited", async () => {
  const first = await start();
  const slow = await first.submit({ model: "gated-alone", input: { dir, gated_attempts: [1] } });
  await begun(slow.task_id);
  // Behind it and not on their way to it: what is on its way when an actor dies waits for its lease.
  const waiting = await Promise.all(
    Array.from({ length: 30 }, () => first.submit({ model: "gated-alone", input: { dir } })),
  );
  await first.kill();

  const next = await start();
  const resumedAt = performance.now();
  const tasks = await Promise.all([slow, ...waiting].map(({ task_id }) => next.ended(task_id, 60_000)));
  expect(tasks.filter(({ status }) => status !== "SUCCESS")).toEqual([]);
  expect(tasks.map(({ attempt }) => attempt)).toEqual([2, ...waiting.map(() => 1)]);
  expect(performance.now() - resumedAt).toBeLessThan(ACK_WAIT_MS / 2); // handed back, not lapsed
  const ends = await endsOf(next.bus);
  expect([...ends.values()].filter((records) => records.length !== 1)).toEqual([]);
  expect(ends.size).toBe(31);
  await expectObjects(tasks);
});
