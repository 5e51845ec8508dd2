// What an actor counts: attempts, retries, the ends that it wrote, and how long each stage of a task took. jobs.ts and
// attempt.ts tell it; it decides nothing. An actor has no other HTTP: its metrics have a port of their own.
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import type { Histogram, Metrics } from "../metrics/metrics.ts";
import { startMetrics } from "../metrics/process.ts";
import { serveMetrics } from "../metrics/server.ts";
import { createTaskMetrics } from "../tasks/metrics.ts";
import type { JobRecord, Timing } from "../tasks/records.ts";
import type { TerminalStatus } from "../tasks/task.ts";

export interface ActorMetrics {
  /** An attempt begins. */
  began(model: string): void;
  /** An attempt failed, and another will follow. */
  retried(model: string): void;
  /** An attempt found no model server, and will be begun again. */
  waited(model: string): void;
  /** This actor has written the end of the task. */
  ended(job: JobRecord, status: TerminalStatus, timing: Timing | null): void;
}

/** From an echo to a film; what waits in a queue may wait for hours. */
const STAGE_BOUNDS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800];
const STAGES = ["queue", "prepare", "infer", "postprocess", "upload"] as const;

export interface Exposed {
  readonly metrics: Metrics;
  /** Where they are served; null where the port was taken. */
  readonly url: string | null;
  stop(): Promise<void>;
}

/**
 * The metrics of this actor's process, served from now on. Actors of one machine share METRICS_PORT: each has the port
 * that is as far behind it as its GPU is in GPU_IDS.
 */
export function exposeMetrics(config: Config, gpu: string, log: Log): Exposed {
  const { metrics, stop } = startMetrics(systemClock, log);
  const { metricsHost, metricsPort, gpuIds } = config;
  const port = metricsPort === 0 ? 0 : metricsPort + Math.max(0, gpuIds.indexOf(gpu));
  const server = serveMetrics(metrics, metricsHost, port, log);
  return {
    metrics,
    url: server.url,
    async stop() {
      stop();
      await server.stop();
    },
  };
}

/** `held` is the number of jobs that the actor has now. */
export function createActorMetrics(metrics: Metrics, models: readonly string[], held: () => number): ActorMetrics {
  metrics.sampled({ name: "millrace_actor_jobs", help: "Jobs that this actor holds.", type: "gauge", read: held });
  const tasks = createTaskMetrics(metrics);
  const attempts = metrics.counter({
    name: "millrace_task_attempts_total",
    help: "Attempts that this actor has begun.",
    labels: ["model"],
  });
  const retries = metrics.counter({
    name: "millrace_task_retries_total",
    help: "Attempts of this actor that failed and are followed by another.",
    labels: ["model"],
  });
  const waits = metrics.counter({
    name: "millrace_task_model_waits_total",
    help: "Times that an attempt of this actor found no model server and was put off, uncounted.",
    labels: ["model"],
  });
  const stage = metrics.histogram({
    name: "millrace_task_stage_seconds",
    help: "Time of each stage of the attempt by which a task succeeded; queue: from when it was due to that attempt.",
    labels: ["model", "stage"],
    bounds: STAGE_BOUNDS_S,
  });
  const total = metrics.histogram({
    name: "millrace_task_seconds",
    help: "From when a task was due to its success.",
    labels: ["model", "priority"],
    bounds: STAGE_BOUNDS_S,
  });
  // Bound once, and there with zeros from the start: a rate needs the value before the first event.
  const stages = new Map<string, readonly Histogram[]>();
  for (const model of models) {
    attempts.of(model);
    retries.of(model);
    waits.of(model);
    stages.set(
      model,
      STAGES.map((name) => stage.of(model, name)),
    );
  }
  return {
    began: (model) => attempts.of(model).add(),
    retried: (model) => retries.of(model).add(),
    waited: (model) => waits.of(model).add(),
    ended(job, status, timing) {
      tasks.ended(job.model, job.priority, status);
      // The times of failures say how soon something broke; beside those of successes they would hide both.
      if (status !== "SUCCESS" || !timing) return;
      const times = [timing.queue_ms, timing.prepare_ms, timing.infer_ms, timing.postprocess_ms, timing.upload_ms];
      stages.get(job.model)?.forEach((histogram, index) => {
        histogram.observe((times[index] ?? 0) / 1_000);
      });
      total.of(job.model, job.priority).observe(timing.total_ms / 1_000);
    },
  };
}
