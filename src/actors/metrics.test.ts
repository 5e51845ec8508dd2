// What an actor counts, and which port its metrics have on a machine of several GPUs.
import { expect, test } from "bun:test";
import { loadConfig } from "../config.ts";
import { silentLog } from "../log.ts";
import { createMetrics } from "../metrics/metrics.ts";
import { serveMetrics } from "../metrics/server.ts";
import type { JobRecord, Timing } from "../tasks/records.ts";
import { createActorMetrics, exposeMetrics } from "./metrics.ts";

const job: JobRecord = {
  v: 1,
  id: "01jd5w3v9m7k2q4x8n6t0r5y1z",
  key: "k",
  hash: "",
  nonce: "",
  created: 0,
  trace: "",
  model: "echo",
  priority: "low",
  input: {},
  metadata: {},
};
const timing: Timing = { queue_ms: 5, prepare_ms: 20, infer_ms: 300, postprocess_ms: 1, upload_ms: 0, total_ms: 326 };

test("stages are those of successes; every end counts, whatever it is", async () => {
  const metrics = createMetrics(silentLog);
  const actor = createActorMetrics(metrics, ["echo"], () => 3);
  actor.ended(job, "SUCCESS", timing);
  actor.ended(job, "FAILURE", { ...timing, infer_ms: 60_000 });
  actor.ended(job, "CANCELLED", null);
  const lines = (await metrics.text()).split("\n");
  const one = (line: string): void => expect(lines).toContain(line);
  for (const status of ["SUCCESS", "FAILURE", "CANCELLED"])
    one(`millrace_tasks_ended_total{model="echo",priority="low",status="${status}"} 1`);
  one('millrace_task_stage_seconds_sum{model="echo",stage="queue"} 0.005');
  one('millrace_task_stage_seconds_sum{model="echo",stage="infer"} 0.3');
  one('millrace_task_stage_seconds_bucket{model="echo",stage="infer",le="0.25"} 0');
  one('millrace_task_stage_seconds_bucket{model="echo",stage="infer",le="0.5"} 1');
  one('millrace_task_seconds_count{model="echo",priority="low"} 1');
  one("millrace_actor_jobs 3");
  one('millrace_task_retries_total{model="echo"} 0');
});

test("actors of one machine stand side by side on the ports from METRICS_PORT on", async () => {
  const free = serveMetrics(createMetrics(silentLog), "127.0.0.1", 0, silentLog);
  const port = Number(new URL(free.url ?? "").port);
  await free.stop();
  const config = loadConfig({ GPU_IDS: "4,7", METRICS_PORT: String(port - 1) });
  const second = exposeMetrics(config, "7", silentLog);
  expect(second.url).toBe(`http://127.0.0.1:${port}/metrics`);
  await second.stop();
  const unset = exposeMetrics(loadConfig({ GPU_IDS: "4,7" }), "7", silentLog);
  expect(Number(new URL(unset.url ?? "").port)).toBeGreaterThan(0);
  await unset.stop();
});
