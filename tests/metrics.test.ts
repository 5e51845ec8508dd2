// What a gateway and an actor say at /metrics after real work: the numbers, the form, and Prometheus' own judgement.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Exposition, readExposition } from "./exposition.ts";
import { type Stack, startStack } from "./stack.ts";

let stack: Stack;
/** The texts of the gateway and the actor, scraped when all of the work below had ended but for one task that waits. */
let gatewayText: string;
let actorText: string;

const scrape = async (url: string): Promise<string> => {
  const response = await fetch(url);
  expect([response.status, response.headers.get("content-type")]).toEqual([
    200,
    "text/plain; version=0.0.4; charset=utf-8",
  ]);
  return response.text();
};

beforeAll(async () => {
  stack = await startStack({ settings: { MODELS: "echo" } });
  const submit = async (body: object): Promise<string> => (await stack.submit({ model: "echo", ...body })).task_id;
  const ended = await Promise.all([
    ...Array.from({ length: 3 }, () => submit({ input: {} })),
    submit({ input: { text: "x".repeat(20_000) }, priority: "high" }),
    submit({ input: { fail_times: 1 }, max_attempts: 2 }),
    submit({ input: { fail_times: 9 }, max_attempts: 1 }),
  ]);
  for (const id of ended) await stack.ended(id);
  // Eight slots: seven hours of sleep and one that is cancelled leave the next one waiting until its turn.
  const asleep = await Promise.all(Array.from({ length: 8 }, () => submit({ input: { sleep_ms: 3_600_000 } })));
  for (const id of asleep) await stack.started(id);
  await submit({ input: {}, priority: "low" });
  await stack.until("the task waits", 10_000, async () => {
    gatewayText = await scrape(`${stack.url}/metrics`);
    return readExposition(gatewayText).sum("millrace_queue_depth", 'priority="low"') === 1 ? true : null;
  });
  await stack.call("POST", `/v1/tasks/${asleep[0]}/cancel`);
  await stack.ended(asleep[0] ?? "");
  const { metrics } = await stack.logged({ message: "actor is ready" });
  // The gateway may have heard of an end before the actor that wrote it has heard that it won.
  await stack.until("the actor counts its end", 10_000, async () => {
    actorText = await scrape(String(metrics));
    return readExposition(actorText).sum("millrace_tasks_ended_total", 'status="CANCELLED"') === 1 ? true : null;
  });
});

afterAll(() => stack.stop());

const gateway = (): Exposition => readExposition(gatewayText);
const actor = (): Exposition => readExposition(actorText);

test("a gateway counts what it accepted, and shows the queues as the broker has them", () => {
  const found = gateway();
  expect(found.value("millrace_tasks_accepted_total", 'model="echo",priority="normal"')).toBe(13);
  expect(found.value("millrace_tasks_accepted_total", 'model="echo",priority="high"')).toBe(1);
  expect(found.value("millrace_tasks_accepted_total", 'model="echo",priority="low"')).toBe(1);
  expect(found.value("millrace_http_requests_total", 'method="POST",route="/v1/tasks",status="2xx"')).toBe(15);
  expect(found.value("millrace_queue_depth", 'model="echo",priority="low"')).toBe(1);
  expect(found.value("millrace_queue_depth", 'model="echo",priority="normal"')).toBe(0);
  expect(found.value("millrace_queue_in_flight", 'model="echo",priority="normal"')).toBe(8);
  expect(found.value("millrace_queue_oldest_age_seconds", 'model="echo",priority="low"')).toBeGreaterThan(0);
  expect(found.value("millrace_model_actors", 'model="echo"')).toBe(1);
  expect(found.value("millrace_broker_connected")).toBe(1);
  expect(found.value("millrace_blob_bytes_total", 'direction="written"')).toBeGreaterThan(20_000);
});

test("an actor counts attempts, retries, ends by status, and the stages of what succeeded", () => {
  const found = actor();
  const ended = (status: string): number => found.sum("millrace_tasks_ended_total", `status="${status}"`);
  expect([ended("SUCCESS"), ended("FAILURE"), ended("CANCELLED")]).toEqual([expect.any(Number), 1, 1]);
  expect(ended("SUCCESS")).toBeGreaterThanOrEqual(5); // the one that waited may be among them by now
  expect(found.value("millrace_task_retries_total", 'model="echo"')).toBe(1);
  expect(found.value("millrace_task_attempts_total", 'model="echo"')).toBeGreaterThanOrEqual(15);
  for (const stage of ["queue", "prepare", "infer", "postprocess", "upload"]) {
    const count = found.families
      .get("millrace_task_stage_seconds")
      ?.samples.get(`_count|model="echo",stage="${stage}"`);
    expect([stage, count]).toEqual([stage, ended("SUCCESS")]);
  }
  expect(found.value("millrace_actor_jobs")).toBeGreaterThanOrEqual(7);
  expect(found.value("millrace_blob_bytes_total", 'direction="read"')).toBeGreaterThan(20_000);
});

test("both say what their process costs", () => {
  for (const found of [gateway(), actor()]) {
    expect(found.value("process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
    expect(found.value("process_cpu_seconds_total")).toBeGreaterThan(0);
    expect(Math.abs(found.value("process_start_time_seconds") - Date.now() / 1_000)).toBeLessThan(120);
    expect(found.families.get("millrace_event_loop_lag_seconds")?.samples.get("_count|")).toBeGreaterThan(0);
  }
});

test("an actor's port answers nothing else", async () => {
  const { metrics } = await stack.logged({ message: "actor is ready" });
  const url = String(metrics);
  expect((await fetch(url.replace("/metrics", "/"))).status).toBe(404);
  expect((await fetch(url, { method: "POST", body: "x" })).status).toBe(405);
  expect(new URL(url).hostname).toBe("127.0.0.1");
});

const promtool = Bun.which("promtool");

test.skipIf(promtool === null)(
  "promtool finds nothing to say (skipped without promtool of Debian's prometheus)",
  async () => {
    for (const text of [gatewayText, actorText]) {
      const child = Bun.spawn([promtool ?? "", "check", "metrics"], {
        stdin: new Blob([text]),
        stdout: "pipe",
        stderr: "pipe",
      });
      const said = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
      expect(said).toEqual(["", "", 0]);
    }
  },
);

test("the supervisor counts what it had to start again", async () => {
  const { metrics } = await stack.logged({ message: "ready" });
  const read = async (): Promise<Exposition> => readExposition(await scrape(String(metrics)));
  const before = await read();
  for (const name of ["broker", "gateway", "actor-0"]) {
    expect([name, before.value("millrace_child_running", `process="${name}"`)]).toEqual([name, 1]);
  }
  expect(before.value("millrace_child_deaths_total", 'process="actor-0"')).toBe(0);
  process.kill(await stack.pidOf("actor-0"), "SIGKILL");
  await stack.until("the actor serves again", 20_000, async () => {
    const now = await read();
    const [deaths, runs] = ["deaths_total", "running"].map((name) =>
      now.value(`millrace_child_${name}`, 'process="actor-0"'),
    );
    return deaths === 1 && runs === 1 ? true : null;
  });
});
