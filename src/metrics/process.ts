// What every process says of itself: memory, CPU, start, and how late its event loop runs. The names are those that
// Prometheus' client libraries have agreed on, where they have.
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import { createMetrics, type Metrics } from "./metrics.ts";

/** How often the loop is asked. Rare enough to cost nothing, often enough to meet most stalls. */
const LAG_EVERY_MS = 100;

/** The metrics of a process, with its own in them. `stop` ends the timer. */
export function startMetrics(clock: Clock, log: Log): { readonly metrics: Metrics; stop(): void } {
  const metrics = createMetrics(log);
  const started = clock.now() / 1_000 - process.uptime();
  metrics.sampled({
    name: "process_start_time_seconds",
    help: "Start of the process, in seconds since the epoch.",
    type: "gauge",
    read: () => started,
  });
  metrics.sampled({
    name: "process_cpu_seconds_total",
    help: "CPU time of all threads of the process, user and system.",
    type: "counter",
    read: () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000_000;
    },
  });
  metrics.sampled({
    name: "process_resident_memory_bytes",
    help: "Memory of the process that is in RAM.",
    type: "gauge",
    read: () => process.memoryUsage.rss(),
  });
  return { metrics, stop: addLag(metrics, clock) };
}

function addLag(metrics: Metrics, clock: Clock): () => void {
  const lag = metrics
    .histogram({
      name: "millrace_event_loop_lag_seconds",
      help: "How much later than asked a timer of the main thread fired, ten times a second.",
      bounds: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
    })
    .of();
  let dueMs = clock.monotonicMs() + LAG_EVERY_MS;
  const timer = setInterval(() => {
    const nowMs = clock.monotonicMs();
    lag.observe(Math.max(0, nowMs - dueMs) / 1_000);
    dueMs = nowMs + LAG_EVERY_MS;
  }, LAG_EVERY_MS);
  return () => clearInterval(timer);
}
