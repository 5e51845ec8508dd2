// The JSON Schemas of what the API takes and answers, each field with its meaning, unit and range. submit.ts checks
// bodies against the first; openapi.ts publishes all of them. Pure data, never changed at run time.

import { callbackEvents } from "../tasks/callback.ts";
import { priorities, statuses } from "../tasks/task.ts";
import { AHEAD_MS_MAX } from "../tasks/times.ts";
import { fileSchemas } from "./file-schemas.ts";
import { llmSchemas } from "./llm-schemas.ts";
import { modelSchemas } from "./model-schemas.ts";
import { queueSchemas } from "./queue-schemas.ts";
import { scheduleSchemas } from "./schedule-schemas.ts";
import { taskDataSchemas } from "./task-data-schemas.ts";
import { webhookSchemas } from "./webhook-schemas.ts";

export const modelPattern = "^[a-z0-9][a-z0-9-]{0,63}$";
export const taskIdPattern = "^[0-7][0-9a-hjkmnp-tv-z]{25}$";
export const metadataNamePattern = "^[A-Za-z0-9_.-]{1,64}$";
export const clientRequestIdPattern = "^[\\x21-\\x7e]{1,255}$";

export const taskRequestSchema = {
  type: "object",
  description: "A task to be run.",
  additionalProperties: false,
  required: ["model", "input"],
  dependentRequired: { callback_events: ["callback_url"] },
  properties: {
    model: {
      type: "string",
      pattern: modelPattern,
      description: "Name of the model that runs the task, as listed by GET /v1/models.",
      examples: ["superres-x4"],
    },
    input: {
      type: "object",
      description: "The model's input; its schema is `millrace.input_schema` of GET /v1/models/{id}.",
      examples: [{ image_url: "https://example.com/a.jpg" }],
    },
    priority: {
      type: "string",
      enum: [...priorities],
      default: "normal",
      description: "Level of the queue. Higher levels go first; lower ones are aged, so that they cannot starve.",
    },
    client_request_id: {
      type: "string",
      pattern: clientRequestIdPattern,
      description:
        "Your name for this request, 1 to 255 visible ASCII characters. The same name with the same request answers " +
        "the same task; with another request 422. The Idempotency-Key header is an alias.",
      examples: ["order-4711"],
    },
    max_attempts: {
      type: "integer",
      minimum: 1,
      maximum: 20,
      description: "Attempts in all, first one included. Default: the model's.",
    },
    timeout_ms: {
      type: "integer",
      minimum: 100,
      maximum: 86_400_000,
      description:
        "Milliseconds that one attempt may take. Default: the model's. Where it is given it also bounds the wait of an " +
        "attempt for its model server.",
    },
    run_at: {
      type: "string",
      format: "date-time",
      description:
        "When the task may start (RFC 3339), at most 365 days ahead; it is kept and can be cancelled from the start. " +
        "In the past: at once. Not together with `delay_ms`.",
      examples: ["2026-11-22T06:00:00Z"],
    },
    delay_ms: {
      type: "integer",
      minimum: 0,
      maximum: AHEAD_MS_MAX,
      description: "Milliseconds from its acceptance until the task may start. Not together with `run_at`.",
    },
    deadline: {
      type: "string",
      format: "date-time",
      description:
        "Latest start (RFC 3339): a task that has not been started by then ends as FAILURE `deadline_exceeded`. " +
        "Default: 24 hours after it is due. It does not end an attempt; `timeout_ms` does. A task that waits for its " +
        "model server waits no longer than that.",
      examples: ["2026-11-22T12:00:00Z"],
    },
    callback_url: {
      type: "string",
      maxLength: 2_048,
      description:
        "Where to POST a signed webhook when the task has ended: a public https:// address without a user name. Signed as " +
        "Standard Webhooks has it, with a secret of GET /v1/webhooks/secrets; tried again for a day and more until it " +
        "answers 2xx. See GET /v1/tasks/{id}/deliveries.",
      examples: ["https://example.com/hooks/millrace"],
    },
    callback_events: {
      type: "array",
      minItems: 1,
      uniqueItems: true,
      items: { type: "string", enum: [...callbackEvents] },
      default: ["completed"],
      description:
        "What to tell: `completed` is tried until it arrives; `started` and `progress` are sent once, without a promise.",
      examples: [["started", "completed"]],
    },
    metadata: {
      type: "object",
      maxProperties: 16,
      propertyNames: { pattern: metadataNamePattern },
      additionalProperties: { type: "string", maxLength: 512 },
      description: "Up to 16 strings of yours of up to 512 characters each, kept with the task and its events.",
      examples: [{ order: "4711" }],
    },
  },
} as const;

const taskId = {
  type: "string",
  pattern: taskIdPattern,
  description: "The task's id: 26 characters of lower-case base32.",
  examples: ["01jd5w3v9m7k2q4x8n6t0r5y1z"],
};
const status = {
  type: "string",
  enum: [...statuses],
  description: "PENDING, STARTED and RETRY lead on; SUCCESS, FAILURE and CANCELLED are final.",
};
const time = (what: string): object => ({
  type: "string",
  format: "date-time",
  description: `${what} (RFC 3339, UTC, milliseconds).`,
});
const ms = (what: string): object => ({ type: "number", minimum: 0, description: `Milliseconds ${what}.` });
const path = (what: string): object => ({ type: "string", description: `Path of ${what}, relative to this origin.` });

const acceptedSchema = {
  type: "object",
  description: "An accepted task.",
  required: ["task_id", "status", "urls"],
  properties: {
    task_id: taskId,
    status,
    retry_of: { ...taskId, description: "Of a retry: id of the ended task." },
    urls: {
      type: "object",
      description: "Where to go on.",
      required: ["self", "events", "result", "cancel"],
      properties: {
        self: path("the task"),
        events: path("its event stream"),
        result: path("its result"),
        cancel: path("its cancellation (POST)"),
      },
    },
  },
};

const taskSchema = {
  type: "object",
  description: "A task as its owner sees it. What does not apply, or not yet, is null or absent.",
  required: ["task_id", "status", "model", "priority", "attempt", "created_at"],
  properties: {
    task_id: taskId,
    status,
    model: { type: "string", pattern: modelPattern, description: "Name of the model that runs the task." },
    priority: { type: "string", enum: [...priorities], description: "Level of the queue." },
    attempt: { type: "integer", minimum: 0, description: "Attempts begun so far." },
    actor: {
      type: ["object", "null"],
      description: "Who ran the last attempt.",
      properties: {
        id: { type: "string", description: "Id of the actor process." },
        gpu: { type: "string", description: "GPU id that the actor is bound to." },
      },
    },
    timing: {
      type: ["object", "null"],
      description: "Where the time of the last attempt went.",
      properties: {
        queue_ms: ms("from acceptance (or `run_at`, where it is later) to the start of the attempt"),
        prepare_ms: ms("of fetching and decoding the input"),
        infer_ms: ms("of inference"),
        postprocess_ms: ms("of turning what was inferred into the result"),
        upload_ms: ms("of storing the result's file"),
        total_ms: ms("from acceptance (or `run_at`, where it is later) to the end"),
      },
    },
    result: {
      description: "The model's output (its schema: `millrace.output_schema`), with what follows when it is a file.",
      additionalProperties: true,
      properties: {
        s3_key: { type: "string", description: "Key of the stored file; GET /v1/tasks/{id}/result sends it." },
        sha256: { type: "string", description: "SHA-256 of the file, in hexadecimal." },
        size_bytes: { type: "integer", minimum: 0, description: "Size of the file in bytes." },
        content_type: { type: "string", description: "Media type of the file." },
      },
    },
    error: {
      type: "object",
      description: "Why the task failed; in RETRY why its last attempt did, or what it waits for.",
      required: ["code", "message", "stage", "retryable"],
      properties: {
        code: { type: "string", description: "Stable name of the failure." },
        message: { type: "string", description: "What happened, in words." },
        stage: {
          type: "string",
          description: "The stage that failed: prepare, infer, postprocess, output, upload or queue.",
        },
        retryable: { type: "boolean", description: "Whether the same task may succeed when it is sent again." },
      },
    },
    queue_position: {
      type: "integer",
      minimum: 1,
      description: "While PENDING: about how many tasks go first, plus one. As of a second or two ago.",
    },
    eta_ms: {
      type: ["integer", "null"],
      minimum: 0,
      description:
        "While PENDING: milliseconds until the task is expected to have ended. A forecast from the model's pace: it " +
        "knows neither tasks to come nor how long this one takes. Null where nothing tells.",
    },
    created_at: time("When the task was accepted"),
    run_at: time("When it may start, until it has ended, where the request said so"),
    deadline: time("Its latest start, until it has ended, where the request said so"),
    started_at: { ...time("When the last attempt began"), type: ["string", "null"] },
    waiting_since: time("In RETRY: since then it waits for a model server, which takes none of its attempts"),
    finished_at: time("When the task ended"),
    retry_of: { ...taskId, description: "Id of the ended task that this one repeats." },
    data_deleted_at: time("When its owner erased input and result"),
    cancel_requested_at: time("When its cancellation was accepted, until it has ended"),
    metadata: {
      type: "object",
      additionalProperties: { type: "string" },
      description: "The metadata of the request.",
    },
  },
};

const cancelSchema = {
  type: "object",
  description: "A cancellation that has been accepted: no SUCCESS appears any more.",
  required: ["task_id", "status", "cancel_requested_at"],
  properties: { task_id: taskId, status, cancel_requested_at: time("When the cancellation was accepted") },
};

const readinessSchema = {
  type: "object",
  description: "Which parts can work.",
  required: ["parts"],
  properties: {
    status: { type: "string", description: "`ready`." },
    parts: {
      type: "array",
      description: "Every part that this process needs.",
      items: {
        type: "object",
        required: ["part", "ready"],
        properties: {
          part: { type: "string", description: "Name of the part, such as `broker`." },
          ready: { type: "boolean", description: "Whether it can work." },
          detail: { type: "string", description: "What is wrong, in words." },
        },
      },
    },
  },
};

const problemSchema = {
  type: "object",
  description: "A problem (RFC 9457). `code` is stable; `title` and `detail` are for people.",
  required: ["type", "title", "status", "detail", "code", "request_id", "retryable"],
  properties: {
    type: { type: "string", format: "uri", description: "`urn:millrace:problem:` and the code." },
    title: { type: "string", description: "What this code means." },
    status: { type: "integer", description: "The HTTP status." },
    detail: { type: "string", description: "What is wrong with this request." },
    code: { type: "string", description: "Stable name of the problem." },
    request_id: { type: "string", description: "The x-request-id of this request, to be quoted in a report." },
    errors: {
      type: "array",
      description: "The fields that are not valid.",
      items: {
        type: "object",
        required: ["path", "message"],
        properties: {
          path: { type: "string", description: "JSON Pointer (RFC 6901) into the body; a query parameter as /name." },
          message: { type: "string", description: "What the field must be." },
        },
      },
    },
    retryable: { type: "boolean", description: "Whether the same request may succeed later." },
  },
};

/** By the names under which OpenAPI's `components.schemas` lists them. */
export const schemas: Readonly<Record<string, object>> = {
  TaskRequest: taskRequestSchema,
  Accepted: acceptedSchema,
  Task: taskSchema,
  CancelRequested: cancelSchema,
  ...modelSchemas,
  ...queueSchemas,
  ...webhookSchemas,
  Readiness: readinessSchema,
  Problem: problemSchema,
  ...fileSchemas,
  ...llmSchemas,
  ...scheduleSchemas,
  ...taskDataSchemas,
};
