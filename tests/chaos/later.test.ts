// `kill -9` of everything while tasks wait for their time and a schedule for its occurrence: each fires once, at once
// when it was missed. Before that, a job that was never started in time: it never runs, whoever comes upon it.
import { Database } from "bun:sqlite";
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keptPath } from "../../src/db/db.ts";
import { type Stack, startStack, type TaskJson, until } from "../stack.ts";
import { endsOf, jobsOf } from "./records.ts";

setDefaultTimeout(60_000);

const PLUGINS_DIR = join(import.meta.dir, "../fixtures/plugins");
const settings = { DURABILITY: "fsync", PARTITIONS: "2", MODELS: "echo,gated-alone", PLUGINS_DIR };
const dir = await mkdtemp(join(tmpdir(), "millrace later "));
const dataDir = join(dir, "data");
await mkdir(dataDir);
const stacks: Stack[] = [];
afterAll(async () => {
  await Promise.all(stacks.splice(0).map((stack) => stack.stop()));
  await rm(dir, { recursive: true, force: true });
});

async function start(): Promise<Stack> {
  const stack = await startStack({ settings, dataDir });
  stacks.push(stack);
  return stack;
}

/** An hour passes for the schedule while nothing runs. */
function missOccurrence(scheduleId: string): void {
  const database = new Database(keptPath(dataDir));
  database.run("UPDATE schedules SET next_ms = next_ms - 3600000 * 24 WHERE schedule_id = ?", [scheduleId]);
  database.close();
}

test("what waits survives kill -9 of everything and fires once; what was not started in time never runs", async () => {
  const first = await start();
  const running = await first.submit({ model: "gated-alone", input: { dir, gated_attempts: [1] } });
  await first.started(running.task_id);
  const deadline = new Date(Date.now() + 300).toISOString();
  const late = await first.submit({ model: "gated-alone", input: { dir }, deadline });
  const behind = await first.submit({ model: "gated-alone", input: { dir } });

  const waiting = await Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      first.submit({ model: "echo", input: { text: `${n}` }, delay_ms: 2_500, client_request_id: `later-${n}` }),
    ),
  );
  const cancelled = await first.submit({ model: "echo", input: {}, delay_ms: 2_500 });
  expect((await first.call("POST", `/v1/tasks/${cancelled.task_id}/cancel`)).status).toBe(202);
  const made = await first.call("POST", "/v1/schedules", { cron: "@hourly", task: { model: "echo", input: {} } });
  const { schedule_id: scheduleId } = (await made.json()) as { schedule_id: string };

  expect(await first.ended(late.task_id)).toMatchObject({ error: { code: "deadline_exceeded" }, attempt: 0 });
  await writeFile(join(dir, "open-1"), "");
  expect(await first.ended(behind.task_id)).toMatchObject({ status: "SUCCESS" }); // the late one stood before it
  expect(existsSync(join(dir, `ran-${late.task_id}`))).toBe(false);

  const pids = await Promise.all(["gateway", "actor-0", "nats-server"].map((name) => first.pidOf(name)));
  for (const pid of [first.up.pid, ...pids]) process.kill(pid, "SIGKILL");
  await first.kill();
  missOccurrence(scheduleId);

  const next = await start();
  const again = await next.submit({
    model: "echo",
    input: { text: "7" },
    delay_ms: 2_500,
    client_request_id: "later-7",
  });
  expect(again.task_id).toBe(waiting[7]?.task_id ?? "");
  const tasks = await Promise.all(waiting.map(({ task_id }) => next.ended(task_id)));
  expect(tasks.filter(({ status, attempt }) => status !== "SUCCESS" || attempt !== 1)).toEqual([]);
  const early = tasks.filter((task) => Date.parse(`${task.started_at}`) - Date.parse(`${task.created_at}`) < 2_500);
  expect(early).toEqual([]);
  const fired = await until("the missed occurrence", 10_000, async () => {
    const schedule = (await (await next.call("GET", `/v1/schedules/${scheduleId}`)).json()) as TaskJson;
    return typeof schedule.last_task_id === "string" ? schedule.last_task_id : null;
  });
  expect(await next.ended(fired)).toMatchObject({ status: "SUCCESS" });

  const [jobs, ends] = await Promise.all([jobsOf(next.bus), endsOf(next.bus)]);
  const waited = new Set(tasks.map(({ task_id }) => task_id));
  expect([...jobs].filter(([taskId, count]) => waited.has(taskId) && count !== 1)).toEqual([]);
  expect([...ends.values()].filter((records) => records.length !== 1).length).toBe(1); // the cancelled one has a marker
  expect(await next.read(cancelled.task_id)).toMatchObject({ status: "CANCELLED", started_at: null });
  expect(jobs.size).toBe(3 + 20 + 1 + 1);
});
