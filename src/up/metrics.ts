// What the supervisor counts: how often it had to start a child again, and which of them run. up.ts makes it and serves
// it; child.ts tells it. A machine that keeps restarting something looks healthy otherwise.
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import { startMetrics } from "../metrics/process.ts";
import { serveMetrics } from "../metrics/server.ts";

export interface ChildCounts {
  /** A child died that nobody had stopped. */
  died(name: string): void;
  /** A child says that it serves, or it has ended. */
  running(name: string, runs: boolean): void;
}

export interface UpMetrics extends ChildCounts {
  /** Where they are served; null where the port was taken. */
  readonly url: string | null;
  stop(): Promise<void>;
}

/** Served from now on, one port behind the last actor's where METRICS_PORT is set. */
export function exposeUpMetrics(config: Config, log: Log): UpMetrics {
  const { metrics, stop } = startMetrics(systemClock, log);
  const children = new Map<string, boolean>();
  const deaths = metrics.counter({
    name: "millrace_child_deaths_total",
    help: "Ends of child processes that nobody had asked for; each is started again.",
    labels: ["process"],
  });
  metrics.sampled({
    name: "millrace_child_running",
    help: "1 while the child process serves, 0 from its end until it does again.",
    type: "gauge",
    read: () => [...children].map(([name, runs]) => ({ labels: [["process", name]], value: runs ? 1 : 0 })),
  });
  const { metricsHost, metricsPort, gpuIds } = config;
  const server = serveMetrics(metrics, metricsHost, metricsPort === 0 ? 0 : metricsPort + gpuIds.length, log);
  return {
    url: server.url,
    died: (name) => deaths.of(name).add(),
    running(name, runs) {
      deaths.of(name); // with a zero from the start: a rate needs the value before the first event
      children.set(name, runs);
    },
    async stop() {
      stop();
      await server.stop();
    },
  };
}
