// What OpenAPI says about batches, timelines, queues and actors; beside operations.ts, which has the rest.
import { batchKeysMax } from "./batch.ts";
import { bodyBytesMax } from "./body.ts";
import { exampleId, exampleUrls, json, taskId } from "./operations.ts";
import { batchItemsMax } from "./queue-schemas.ts";
import type { Operation } from "./route.ts";

const submitBatch: Operation = {
  id: "submitBatch",
  tag: "Tasks",
  summary: "Submit many tasks",
  description:
    `Accepts up to ${batchItemsMax} tasks. Each item is accepted or refused for itself, as POST /v1/tasks would, and ` +
    "has its HTTP status and its answer in `results`, in the order of `tasks`. Nothing is undone when another item " +
    "fails; give each a `client_request_id` and the same batch can be sent again. The body has at most " +
    `${bodyBytesMax / 1_048_576} MiB, 64 levels and ${batchKeysMax} keys; an \`Idempotency-Key\` header is refused.`,
  body: {
    schema: "BatchRequest",
    example: {
      tasks: [
        { model: "superres-x4", input: { image_url: "https://example.com/a.jpg" }, client_request_id: "order-4711" },
        { model: "superres-x9", input: { image_url: "https://example.com/b.jpg" }, client_request_id: "order-4712" },
      ],
    },
  },
  answers: {
    "200": json("One result an item, in order.", "Batch", {
      object: "batch",
      accepted: 1,
      refused: 1,
      results: [
        { status: 202, task_id: exampleId, task_status: "PENDING", urls: exampleUrls },
        {
          status: 404,
          problem: {
            type: "urn:millrace:problem:unknown_model",
            title: "No such model",
            status: 404,
            detail:
              "No actor offers this runner. GET /v1/models lists them as kind runner; a language model is named in the " +
              "input of chat and its like.",
            code: "unknown_model",
            request_id: "5e2f0f7a-6f0d-4f0f-9b0c-0d7b6f1c2a11",
            retryable: false,
          },
        },
      ],
    }),
  },
  errors: [
    "invalid_json",
    "request_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "invalid_request",
    "not_ready",
  ],
};

const getTaskTimeline: Operation = {
  id: "getTaskTimeline",
  tag: "Tasks",
  summary: "What has happened to a task",
  description:
    "Every attempt with its start, its output in sum, and how it went on, oldest first. Events are kept for two hours " +
    "at most; what the task and its result say stays as long as they do, and `complete` tells which it is.",
  parameters: [taskId],
  answers: {
    "200": json("The timeline.", "Timeline", {
      task_id: exampleId,
      status: "SUCCESS",
      complete: true,
      entries: [
        { at: "2026-11-21T10:00:00.000Z", event: "queued" },
        { at: "2026-11-21T10:00:00.001Z", event: "started", attempt: 1, actor: { id: "gpu-host-1-0-4711", gpu: "0" } },
        {
          at: "2026-11-21T10:00:00.420Z",
          event: "retry",
          attempt: 1,
          error: { code: "fetch_timeout", message: "The URL answered too slowly", stage: "prepare", retryable: true },
          retry_in_ms: 500,
        },
        { at: "2026-11-21T10:00:00.921Z", event: "started", attempt: 2, actor: { id: "gpu-host-1-0-4711", gpu: "0" } },
        {
          at: "2026-11-21T10:00:01.940Z",
          event: "output",
          attempt: 2,
          progress: { fraction: 1, message: "encoded" },
          progress_events: 12,
          delta_events: 0,
        },
        {
          at: "2026-11-21T10:00:02.031Z",
          event: "ended",
          attempt: 2,
          status: "SUCCESS",
          timing: {
            queue_ms: 921,
            prepare_ms: 120,
            infer_ms: 850,
            postprocess_ms: 12,
            upload_ms: 60,
            total_ms: 2031,
          },
        },
      ],
    }),
  },
  errors: ["task_not_found", "broker_unavailable", "database_unavailable"],
};

const listQueues: Operation = {
  id: "listQueues",
  tag: "Queues",
  summary: "What waits",
  description:
    "One entry a model and priority that has had work: how much waits, how long, and when it will be done, over all " +
    "keys and without any id. Counted at most two seconds ago, later where there are very many queues. `drain_s` is a " +
    "forecast: it knows neither tasks to come nor how long each one takes.",
  answers: {
    "200": json("The queues, by model and from high to low.", "QueueList", {
      object: "list",
      data: [
        {
          model: "superres-x4",
          priority: "high",
          depth: 12,
          in_flight: 2,
          oldest_age_ms: 5_400,
          rate_per_s: 2.13,
          drain_s: 6.1,
        },
      ],
    }),
  },
  errors: ["broker_unavailable"],
};

const listActors: Operation = {
  id: "listActors",
  tag: "Queues",
  summary: "Who works",
  description:
    "The actors that live now, one a GPU. An actor that dies without a word is listed for up to 10 seconds more; " +
    "`busy` is as it was up to a second ago.",
  answers: {
    "200": json("The actors, by id.", "ActorList", {
      object: "list",
      data: [
        {
          id: "gpu-host-1-0-4711",
          gpu: "0",
          models: ["echo", "superres-x4"],
          slots: 9,
          busy: 1,
          since: "2026-11-21T09:58:00.000Z",
        },
      ],
    }),
  },
  errors: [],
};

export const queueOperations = { submitBatch, getTaskTimeline, listQueues, listActors };
