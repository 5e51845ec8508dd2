// The routes of queues and actors: the same for every key, because what waits before a task is everybody's. They show
// counts and times over all keys, and never the id of a task or of a key.
import { rfc3339 } from "../clock.ts";
import type { ActorEntry } from "../models/announce.ts";
import type { Queues, QueueView } from "../tasks/queues.ts";
import { queueOperations } from "./queue-operations.ts";
import { type KeyedRoute, replyJson } from "./route.ts";

export interface QueueRouteParts {
  readonly queues: Pick<Queues, "list">;
  readonly actors: () => readonly ActorEntry[];
}

export function queueRoutes({ queues, actors }: QueueRouteParts): readonly KeyedRoute[] {
  const list = (data: readonly object[]): string => JSON.stringify({ object: "list", data });
  return [
    {
      access: "key",
      method: "GET",
      path: "/v1/queues",
      operation: queueOperations.listQueues,
      handle: async (call) => replyJson(call, 200, list((await queues.list()).map(publicQueue))),
    },
    {
      access: "key",
      method: "GET",
      path: "/v1/actors",
      operation: queueOperations.listActors,
      handle: (call) => replyJson(call, 200, list(sorted(actors()).map(publicActor))),
    },
  ];
}

const publicQueue = (queue: QueueView): object => ({
  model: queue.model,
  priority: queue.priority,
  depth: queue.depth,
  in_flight: queue.inFlight,
  oldest_age_ms: queue.oldestAgeMs === null ? null : Math.round(queue.oldestAgeMs),
  rate_per_s: Math.round(queue.ratePerS * 100) / 100,
  drain_s: queue.drainMs === null ? null : Math.round(queue.drainMs / 100) / 10,
});

const sorted = (actors: readonly ActorEntry[]): readonly ActorEntry[] =>
  [...actors].sort((a, b) => (a.id < b.id ? -1 : 1));

const publicActor = ({ id, gpu, models, slots, busy, startedAtMs }: ActorEntry): object => ({
  id,
  gpu,
  models,
  slots: slots ?? null,
  busy: busy ?? null,
  since: rfc3339(startedAtMs),
});
