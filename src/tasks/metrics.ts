// What a process counts of tasks: those that it accepted, and those whose end it wrote. Every end is written by one
// process, so the sum over all of them is the truth. And what a gateway sees of the queues, the same at every gateway.
// Labels are models that an actor has announced, and our own words.
import type { Bus } from "../bus/connection.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { Models } from "../models/models.ts";
import type { Queues, QueueView } from "./queues.ts";
import type { Priority, TerminalStatus } from "./task.ts";

export interface TaskMetrics {
  accepted(model: string, priority: Priority): void;
  /** Called where this process won the end of the task. */
  ended(model: string, priority: Priority, status: TerminalStatus): void;
}

export function createTaskMetrics(metrics: Metrics): TaskMetrics {
  const accepted = metrics.counter({
    name: "millrace_tasks_accepted_total",
    help: "Tasks that this process has put into the log. Without requests that were accepted before.",
    labels: ["model", "priority"],
  });
  const ended = metrics.counter({
    name: "millrace_tasks_ended_total",
    help: "Tasks whose end this process has written: actors most of them, gateways those that no actor held.",
    labels: ["model", "priority", "status"],
  });
  return {
    accepted: (model, priority) => accepted.of(model, priority).add(),
    ended: (model, priority, status) => ended.of(model, priority, status).add(),
  };
}

export interface Watched {
  readonly bus: Pick<Bus, "connected">;
  readonly models: Pick<Models, "list">;
  readonly queues: Pick<Queues, "list">;
}

/** What the broker and the actors say; asked at each scrape, and the queues at most once a second. */
export function watchQueues(metrics: Metrics, { bus, models, queues }: Watched): void {
  metrics.sampled({
    name: "millrace_broker_connected",
    help: "1 while this process is connected to the broker.",
    type: "gauge",
    read: () => (bus.connected ? 1 : 0),
  });
  metrics.sampled({
    name: "millrace_model_actors",
    help: "Live actors that host the model.",
    type: "gauge",
    read: () => models.list().map(({ name, actors }) => ({ labels: [["model", name]], value: actors })),
  });
  const queueGauge = (name: string, help: string, pick: (queue: QueueView) => number | null): void =>
    metrics.sampled({
      name,
      help: `${help} The same at every gateway.`,
      type: "gauge",
      read: async () =>
        (await queues.list()).flatMap((queue) => {
          const value = pick(queue);
          const labels = [["model", queue.model] as const, ["priority", queue.priority] as const];
          return value === null ? [] : [{ labels, value }];
        }),
    });
  queueGauge("millrace_queue_depth", "Tasks that wait: for an actor, or for their next attempt.", ({ depth }) => depth);
  queueGauge("millrace_queue_in_flight", "Tasks that an actor works on.", ({ inFlight }) => inFlight);
  queueGauge("millrace_queue_oldest_age_seconds", "How long the oldest task of the depth has waited.", (queue) =>
    queue.depth === 0 ? 0 : queue.oldestAgeMs === null ? null : queue.oldestAgeMs / 1_000,
  );
}
