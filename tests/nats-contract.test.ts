// What other services see on NATS: the subject table of nats/README.md says what src/bus/subjects.ts builds, a result
// is a CloudEvent, one example service hears every end though the broker and it are killed, another submits.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readLast } from "../src/bus/log.ts";
import { bucketSubject, buckets, type QueueAddress, streams, subjects } from "../src/bus/subjects.ts";
import { type Stack, startStack, until } from "./stack.ts";

setDefaultTimeout(60_000);

const root = join(import.meta.dir, "..");
const taskId = "01arz3ndektsv4rrffq69g5fav";

let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ settings: { PARTITIONS: "2", MODELS: "echo" } });
});
afterAll(() => stack.stop());

test("the subject table names what is published, token by token", () => {
  const at: QueueAddress = { partition: 3, level: "high", lane: "a", model: "echo" };
  const built: Record<string, string> = {
    "millrace.jobs.<p>.<level>.<lane>.<model>.<task_id>": subjects.job(at, taskId),
    "millrace.results.<p>.<model>.<status>.<task_id>": subjects.result(3, "echo", "success", taskId),
    "millrace.events.<task_id>": subjects.events(taskId),
    "millrace.bell.<model>": subjects.bell("echo"),
    "millrace.control.<task_id>": subjects.control(taskId),
    "millrace.callback.<task_id>": subjects.callback(taskId),
    "millrace.live.actor.<actor_id>": subjects.liveActor("actor-0"),
    "millrace.usage": subjects.usage,
    "millrace.submit": subjects.submit,
    "$KV.models.<model>": bucketSubject(buckets.models, "echo"),
    "$KV.actors.<actor_id>": bucketSubject(buckets.actors, "actor-0"),
  };
  const sample: Record<string, string> = {
    "<p>": "3",
    "<level>": "high",
    "<lane>": "a",
    "<model>": "echo",
    "<status>": "success",
    "<task_id>": taskId,
    "<actor_id>": "actor-0",
  };
  const rows = readFileSync(join(root, "nats/README.md"), "utf8").match(/^\| `[m$][^`]+`/gm) ?? [];
  const named = rows.map((row) => row.slice(3, -1));
  expect(named.toSorted()).toEqual(Object.keys(built).toSorted());
  for (const row of named) expect(row.replace(/<\w+>/g, (token) => sample[token] ?? token)).toBe(built[row] ?? "");
});

test("a result is a CloudEvent 1.0 whose data is the task", async () => {
  const { task_id } = await stack.submit({ model: "echo", input: { text: "hi" } });
  const task = await stack.ended(task_id);
  const stored = await Promise.all(
    [0, 1].map((p) => readLast(stack.bus, streams.results(p), subjects.anyResult(p, task_id), 5_000)),
  );
  const record = stored.find((each) => each !== null);
  const event = JSON.parse(record?.text ?? "null") as Record<string, unknown>;
  expect(event).toMatchObject({ specversion: "1.0", id: task_id, source: "/millrace", type: "task.success" });
  expect(event).toMatchObject({ subject: task_id, datacontenttype: "application/json", time: task.finished_at });
  expect(event.data).toEqual(task);
  // CloudEvents 1.0 §3.1.1: names of attributes are lower-case letters and digits.
  expect(Object.keys(event).filter((name) => !/^[a-z0-9]{1,20}$/.test(name))).toEqual([]);
});

/** The example as a process; `lines` grows with what it prints. */
function startExample(lines: string[]): { kill(): Promise<void> } {
  const child = Bun.spawn([process.execPath, "docs/examples/follow-results.ts"], {
    cwd: root,
    env: { PATH: process.env.PATH, NATS_URL: stack.natsUrl },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const reading = (async () => {
    let rest = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
    }
  })();
  return {
    async kill() {
      child.kill("SIGKILL");
      await child.exited;
      await reading;
    },
  };
}

test("the example service hears every end, though it and the broker are killed", async () => {
  const lines: string[] = [];
  const heard = (ids: readonly string[]): Promise<true> =>
    until("the ends", 30_000, async () => (ids.every((id) => lines.includes(`${id} task.success echo`)) ? true : null));
  const finish = async (count: number): Promise<string[]> => {
    const ids: string[] = [];
    for (let i = 0; i < count; i++) {
      const { task_id } = await stack.submit({ model: "echo", input: { text: `${i}` } });
      ids.push(task_id);
    }
    for (const id of ids) await stack.ended(id);
    return ids;
  };

  let service = startExample(lines);
  await heard(await finish(5));
  await service.kill();
  const away = await finish(5);
  service = startExample(lines);
  await heard(away);
  process.kill(await stack.pidOf("nats-server"), "SIGKILL");
  await until("the broker's return", 20_000, async () => {
    const response = await stack.call("POST", "/v1/tasks", { model: "echo", input: { text: "back" } });
    return response.status === 202 ? true : null;
  });
  await heard(await finish(5));
  await service.kill();
});

test("the example client submits over NATS, once however often it asks", async () => {
  const submit = async (key: string, ...args: string[]): Promise<{ code: number; output: string; errors: string }> => {
    const child = Bun.spawn([process.execPath, "docs/examples/submit-task.ts", ...args], {
      cwd: root,
      env: { PATH: process.env.PATH, NATS_URL: stack.natsUrl, MILLRACE_API_KEY: key },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    return { code: await child.exited, output: output.trim(), errors };
  };
  const first = await submit(stack.key, "echo", '{"text":"over NATS"}', "order-1");
  expect(await stack.ended(first.output)).toMatchObject({ result: { echo: { text: "over NATS" } } });
  expect(await submit(stack.key, "echo", '{"text":"over NATS"}', "order-1")).toEqual(first);
  const refused = await submit("wrong", "echo");
  expect([refused.code, refused.output]).toEqual([1, ""]);
  expect(refused.errors).toContain("(unauthorized)");
});
