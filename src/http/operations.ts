// What OpenAPI says about each operation: purpose, parameters, answers with examples, and every error code its handler
// can answer. Data only; the routes point here and openapi.ts renders it.
import { bodyBytesMax } from "./body.ts";
import { waitSMax } from "./prefer.ts";
import type { Answer, Operation, Parameter } from "./route.ts";
import { taskIdPattern } from "./schemas.ts";

export const exampleId = "01jd5w3v9m7k2q4x8n6t0r5y1z";
const key = `results/${exampleId}-5f0c9a.png`;
const exampleTask = {
  task_id: exampleId,
  status: "SUCCESS",
  model: "superres-x4",
  priority: "high",
  attempt: 1,
  actor: { id: "gpu-host-1-0-4711", gpu: "0" },
  timing: { queue_ms: 0.6, prepare_ms: 120, infer_ms: 850, postprocess_ms: 12, upload_ms: 60, total_ms: 1043 },
  result: {
    s3_key: key,
    size: [2048, 2048],
    sha256: "98f4a646f0e07c6eaf60ff48e12452fa96b10dc4b2232e3555fe34fd6e44eaa2",
    size_bytes: 3_649_820,
    content_type: "image/png",
  },
  created_at: "2026-11-21T10:00:00.000Z",
  started_at: "2026-11-21T10:00:00.001Z",
  finished_at: "2026-11-21T10:00:01.031Z",
  metadata: { order: "4711" },
};
const exampleWaiting = {
  task_id: exampleId,
  status: "PENDING",
  model: "superres-x4",
  priority: "high",
  attempt: 0,
  queue_position: 12,
  eta_ms: 5_800,
  created_at: "2026-11-21T10:00:00.000Z",
};
export const exampleUrls = {
  self: `/v1/tasks/${exampleId}`,
  events: `/v1/tasks/${exampleId}/events?ticket=t5x2k0.web.6u3qk1yYw0m3k0yJm2W8nA`,
  result: `/v1/tasks/${exampleId}/result`,
  cancel: `/v1/tasks/${exampleId}/cancel`,
};
const exampleAccepted = { task_id: exampleId, status: "PENDING", urls: exampleUrls };
const exampleCancel = { task_id: exampleId, status: "STARTED", cancel_requested_at: "2026-11-21T10:00:00.500Z" };
const { task_id, model, priority, actor, created_at, started_at, metadata } = exampleTask;
const event = (id: string, name: string, data: object): string =>
  `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
const exampleEvents =
  "retry: 1000\n\n" +
  event("0.0", "PENDING", {
    task_id,
    status: "PENDING",
    model,
    priority,
    attempt: 0,
    created_at,
    started_at: null,
    metadata,
  }) +
  event("1.1", "STARTED", { task_id, status: "STARTED", attempt: 1, actor, started_at }) +
  event("1.2", "progress", { fraction: 0.6, message: "enlarged" }) +
  event("1.3", "SUCCESS", exampleTask);

export const json = (
  description: string,
  schema: string,
  example: object,
  headers?: Record<string, string>,
): Answer => ({
  description,
  content: { "application/json": { schema: { $ref: `#/components/schemas/${schema}` }, example } },
  ...(headers ? { headers } : {}),
});

export const taskId: Parameter = {
  name: "id",
  in: "path",
  description: "The task's id, as `task_id` of the accepted task.",
  schema: { type: "string", pattern: taskIdPattern },
  example: exampleId,
};
const prefer: Parameter = {
  name: "Prefer",
  in: "header",
  description: `\`wait=N\` (RFC 7240): hold the answer until the task has ended, at most N seconds (0 to ${waitSMax}).`,
  schema: { type: "string" },
  example: "wait=10",
};
const applied = { "Preference-Applied": "`wait=N` with the seconds that were used, when the client preferred a wait." };

const submitTask: Operation = {
  id: "submitTask",
  tag: "Tasks",
  summary: "Submit a task",
  description:
    "Accepts a task for a model. The answer 202 means that the task is kept: it reaches exactly one final state. " +
    `The body has at most ${bodyBytesMax / 1_048_576} MiB, 64 levels, 10,000 keys and 100,000 array items.`,
  parameters: [
    prefer,
    {
      name: "Idempotency-Key",
      in: "header",
      description: "Another name of `client_request_id`; both given and different is refused.",
      schema: { type: "string", minLength: 1, maxLength: 255 },
      example: "order-4711",
    },
    {
      name: "traceparent",
      in: "header",
      description: "W3C Trace Context of the caller; the task continues that trace.",
      schema: { type: "string" },
      example: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    },
  ],
  body: {
    schema: "TaskRequest",
    example: {
      model: "superres-x4",
      input: { image_url: "https://example.com/a.jpg" },
      priority: "high",
      client_request_id: "order-4711",
      max_attempts: 3,
      timeout_ms: 60_000,
      metadata: { order: "4711" },
    },
  },
  answers: {
    "200": {
      description:
        "With `Prefer: wait=N`: the task has ended and is given whole. With a `client_request_id` that was used " +
        "before: the task of that request and its present status.",
      headers: {
        ...applied,
        Location: "Path of the task.",
        "Idempotency-Replayed": "`true` when the task existed already.",
      },
      content: {
        "application/json": {
          schema: { oneOf: [{ $ref: "#/components/schemas/Task" }, { $ref: "#/components/schemas/Accepted" }] },
          example: exampleTask,
        },
      },
    },
    "202": json("The task is accepted and has not ended.", "Accepted", exampleAccepted, {
      ...applied,
      Location: "Path of the task.",
    }),
  },
  errors: [
    "invalid_json",
    "unknown_model",
    "request_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "invalid_request",
    "idempotency_mismatch",
    "too_many_queued",
    "broker_unavailable",
    "queue_full",
    "not_ready",
    "storage_unavailable",
  ],
};

const getTask: Operation = {
  id: "getTask",
  tag: "Tasks",
  summary: "Read a task",
  description: "The task's state, and once it has ended its result or its error. A task of another key does not exist.",
  parameters: [
    taskId,
    prefer,
    {
      name: "wait",
      in: "query",
      description: "The same wish as `Prefer: wait=N`, in whole seconds; it goes before the header.",
      schema: { type: "integer", minimum: 0, maximum: waitSMax },
      example: 10,
    },
  ],
  answers: {
    "200": json("The task. After a wait: it has ended.", "Task", exampleTask, applied),
    "202": json("After a wait: the task has not ended yet.", "Task", exampleWaiting, applied),
  },
  errors: ["task_not_found", "invalid_request", "broker_unavailable", "not_ready", "database_unavailable"],
};

const streamTaskEvents: Operation = {
  id: "streamTaskEvents",
  tag: "Tasks",
  summary: "Follow a task",
  description:
    "Server-sent events: `event` is the new status, or `progress`, `delta`, `log`, `reset`; `id` is `<attempt>.<n>`. " +
    "The stream ends after the final status. A comment is sent after 5 seconds of silence. A client that returns " +
    "with `Last-Event-ID` goes on where it was. A `delta` is a piece of output, of `chat` `{content}`, `{reasoning}` or " +
    "`{tool_calls}` with its `tokens`; their sum is the result's message. At a `reset` forget all deltas so far: its data " +
    "is the task as it is, because events were lost or the next attempt started again.",
  parameters: [
    taskId,
    {
      name: "Last-Event-ID",
      in: "header",
      description: "Id of the last event that was seen, `<attempt>.<n>`. Without it the stream begins at the start.",
      schema: { type: "string" },
      example: "1.4",
    },
    {
      name: "last_event_id",
      in: "query",
      description: "The same, for clients that cannot set headers. The header goes before it.",
      schema: { type: "string" },
      example: "1.4",
    },
  ],
  answers: {
    "200": {
      description: "The events, as they happen.",
      content: { "text/event-stream": { schema: { type: "string" }, example: exampleEvents } },
    },
    "204": { description: "The last event id is that of the final event: nothing will follow." },
  },
  errors: [
    "task_not_found",
    "not_acceptable",
    "invalid_request",
    "broker_unavailable",
    "not_ready",
    "database_unavailable",
  ],
};

const getTaskResult: Operation = {
  id: "getTaskResult",
  tag: "Tasks",
  summary: "Fetch a result",
  description:
    "The file that the task made, or its output as JSON. Files can be fetched in parts, one range a request.",
  parameters: [
    taskId,
    {
      name: "Range",
      in: "header",
      description: "One range of bytes (RFC 9110 §14) of a file.",
      schema: { type: "string" },
      example: "bytes=0-1023",
    },
    {
      name: "If-None-Match",
      in: "header",
      description: "An ETag that the client holds already.",
      schema: { type: "string" },
    },
  ],
  answers: {
    "200": {
      description: "The whole result.",
      headers: {
        ETag: "SHA-256 of the file, in hexadecimal.",
        "Content-Disposition": "Always an attachment, for files.",
      },
      content: {
        "application/json": { schema: { type: "object" }, example: { words: 42 } },
        "*/*": { schema: { type: "string", format: "binary" } },
      },
    },
    "202": json("The task has not ended yet.", "Task", exampleWaiting, { "Retry-After": "Seconds to wait." }),
    "206": {
      description: "The part that was asked for.",
      headers: { "Content-Range": "Which bytes these are, of how many." },
      content: { "*/*": { schema: { type: "string", format: "binary" } } },
    },
    "304": { description: "The client's copy is the present one." },
    "416": {
      description: "The range begins after the end of the file.",
      headers: { "Content-Range": "`bytes */size`" },
    },
  },
  errors: ["task_not_found", "no_result", "broker_unavailable", "storage_unavailable", "database_unavailable"],
};

const cancelTask: Operation = {
  id: "cancelTask",
  tag: "Tasks",
  summary: "Cancel a task",
  description:
    "Once this is accepted the task cannot succeed any more; it becomes CANCELLED when no GPU works for it. Idempotent.",
  parameters: [taskId],
  answers: { "202": json("The cancellation is accepted.", "CancelRequested", exampleCancel) },
  errors: ["task_not_found", "task_finished", "broker_unavailable", "database_unavailable"],
};

const deleteTask: Operation = { ...cancelTask, id: "deleteTask", summary: "Cancel a task (short form)" };

const live: Operation = {
  id: "live",
  tag: "Operation",
  summary: "Is the process alive",
  description: "Answers as long as the process can answer anything. A supervisor restarts it when this fails.",
  answers: {
    "200": {
      description: "It is.",
      content: {
        "application/json": {
          schema: { type: "object", properties: { status: { type: "string", description: "Always `live`." } } },
          example: { status: "live" },
        },
      },
    },
  },
  errors: [],
};

const ready: Operation = {
  id: "ready",
  tag: "Operation",
  summary: "Can the process work",
  description: "503 while a part that this process needs is not ready, with the parts in `parts`; also while it stops.",
  answers: {
    "200": json("It can.", "Readiness", { status: "ready", parts: [{ part: "broker", ready: true }] }),
  },
  errors: ["not_ready"],
};

const openapi: Operation = {
  id: "openapi",
  tag: "Operation",
  summary: "This document",
  description: "The description of the API in OpenAPI 3.1; /docs shows it as a page.",
  answers: {
    "200": { description: "The document.", content: { "application/json": { schema: { type: "object" } } } },
  },
  errors: [],
};

export const operations = {
  submitTask,
  getTask,
  deleteTask,
  streamTaskEvents,
  getTaskResult,
  cancelTask,
  live,
  ready,
  openapi,
};
