// The JSON Schemas of batches, timelines, queues and actors, as OpenAPI publishes them; beside schemas.ts, which has the
// rest and lists them all. Pure data.
import { priorities, statuses } from "../tasks/task.ts";

export const batchItemsMax = 1_000;

const ref = (name: string): object => ({ $ref: `#/components/schemas/${name}` });
const time = (what: string): object => ({
  type: "string",
  format: "date-time",
  description: `${what} (RFC 3339, UTC, milliseconds).`,
});
const count = (what: string): object => ({ type: "integer", minimum: 0, description: what });

const batchItem = {
  type: "object",
  description: "What became of one item: a task, or a problem.",
  required: ["status"],
  properties: {
    status: {
      type: "integer",
      description: "The HTTP status of the item alone: 202 accepted, 200 accepted before, else a problem.",
    },
    task_id: { type: "string", description: "Id of the task." },
    task_status: { type: "string", enum: [...statuses], description: "Status of the task." },
    urls: { type: "object", description: "Where to go on with the task." },
    problem: { ...ref("Problem"), description: "Why there is no task. Paths of fields begin at the item." },
  },
};

const timelineEntry = {
  type: "object",
  description: "One thing that happened.",
  required: ["at", "event"],
  properties: {
    at: time("When it happened; of `output`, when its last event came"),
    event: {
      type: "string",
      enum: ["queued", "started", "output", "retry", "handed_back", "cancel_requested", "ended"],
      description:
        "`output` sums up what an attempt sent; `handed_back` is an attempt that does not count, because its actor " +
        "was stopped.",
    },
    attempt: count("Number of the attempt; 0 where none had begun."),
    actor: { type: ["object", "null"], description: "Who ran it: `id` and `gpu`." },
    status: { type: "string", enum: [...statuses], description: "Of `ended`: how." },
    error: { type: "object", description: "Of `retry` and `ended`: `code`, `message`, `stage`, `retryable`." },
    retry_in_ms: { type: "number", minimum: 0, description: "Of `retry`: milliseconds until the next attempt." },
    waiting_since: time("Of `retry`: since when the attempt waits for a model server; it does not count"),
    timing: {
      type: ["object", "null"],
      description: "Of `ended`: milliseconds of each stage of the last attempt, as in the task.",
    },
    progress: { type: "object", description: "Of `output`: the last progress, `fraction` and `message`." },
    progress_events: count("Of `output`: how many progress events there were."),
    delta_events: count("Of `output`: how many pieces of output were sent."),
  },
};

const queue = {
  type: "object",
  description: "The queue of a model and a priority, over all keys.",
  required: ["model", "priority", "depth", "in_flight", "oldest_age_ms", "rate_per_s", "drain_s"],
  properties: {
    model: { type: "string", description: "Name of the model." },
    priority: { type: "string", enum: [...priorities], description: "Level of the queue." },
    depth: count("Tasks that wait: for an actor, or for their next attempt."),
    in_flight: count("Tasks that an actor works on."),
    oldest_age_ms: {
      type: ["integer", "null"],
      minimum: 0,
      description: "Milliseconds that the oldest of `depth` has waited; null where nothing waits.",
    },
    rate_per_s: { type: "number", minimum: 0, description: "Tasks that ended a second, over the last 30 seconds." },
    drain_s: {
      type: ["number", "null"],
      minimum: 0,
      description:
        "Seconds until what waits now, here and at the levels above, is expected to have ended; null where no actor " +
        "serves the model or none of its tasks has ended yet.",
    },
  },
};

const actor = {
  type: "object",
  description: "An actor: one process, one GPU.",
  required: ["id", "gpu", "models", "slots", "busy", "since"],
  properties: {
    id: { type: "string", description: "Its id, as in `actor.id` of a task." },
    gpu: { type: "string", description: "GPU id that it is bound to." },
    models: { type: "array", description: "Models that it runs.", items: { type: "string" } },
    slots: {
      type: ["integer", "null"],
      minimum: 0,
      description: "Tasks that it can run at once, over all its models.",
    },
    busy: { type: ["integer", "null"], minimum: 0, description: "Tasks that it holds: running or being written down." },
    since: time("When it started"),
  },
};

const listOf = (what: string, item: object): object => ({
  type: "object",
  description: what,
  required: ["object", "data"],
  properties: {
    object: { type: "string", const: "list", description: "Always `list`." },
    data: { type: "array", description: "The entries.", items: item },
  },
});

export const queueSchemas: Readonly<Record<string, object>> = {
  BatchRequest: {
    type: "object",
    description: "Tasks to be run.",
    additionalProperties: false,
    required: ["tasks"],
    properties: {
      tasks: {
        type: "array",
        minItems: 1,
        maxItems: batchItemsMax,
        description: "Each as in POST /v1/tasks.",
        items: ref("TaskRequest"),
      },
    },
  },
  Batch: {
    type: "object",
    description: "What became of a batch.",
    required: ["object", "accepted", "refused", "results"],
    properties: {
      object: { type: "string", const: "batch", description: "Always `batch`." },
      accepted: count("Items that are tasks now, or were before."),
      refused: count("Items that have a problem."),
      results: { type: "array", description: "One an item, in the order of the request.", items: batchItem },
    },
  },
  Timeline: {
    type: "object",
    description: "What has happened to a task.",
    required: ["task_id", "status", "complete", "entries"],
    properties: {
      task_id: { type: "string", description: "Id of the task." },
      status: { type: "string", enum: [...statuses], description: "Its status now." },
      complete: { type: "boolean", description: "False where events have aged out or were lost." },
      entries: { type: "array", description: "Oldest first.", items: timelineEntry },
    },
  },
  QueueList: listOf("What waits.", queue),
  ActorList: listOf("Who works.", actor),
};
