// What OpenAPI says about finding tasks and acting on what was found. Data only, like operations.ts.
import { bulkMax, cursorSchema, filterProperties, listQuerySchema, pageDefault, pageMax } from "./find-schemas.ts";
import { json } from "./operations.ts";
import type { Operation, Parameter } from "./route.ts";
import { taskIdPattern } from "./schemas.ts";

const exampleTask = {
  task_id: "01jd5w3v9m7k2q4x8n6t0r5y1z",
  status: "FAILURE",
  model: "superres-x4",
  priority: "high",
  attempt: 3,
  actor: { id: "gpu-host-1-0-4711", gpu: "0" },
  timing: null,
  error: { code: "fetch_status", message: "the URL answered 404", stage: "prepare", retryable: false },
  created_at: "2026-11-21T10:00:00.000Z",
  started_at: "2026-11-21T10:00:00.001Z",
  finished_at: "2026-11-21T10:00:01.031Z",
  metadata: { order: "4711" },
};
const exampleCursor = "MTc5NTI1NTIwMDAwMC4wMWpkNXczdjltN2sycTR4OG42dDByNXkxeg";

const query = (name: string, schema: { readonly description?: string }, example?: unknown): Parameter => ({
  name,
  in: "query",
  description: schema.description ?? "",
  schema,
  ...(example === undefined ? {} : { example }),
});

const { metadata: _metadata, q, created_after, created_before, ...plain } = filterProperties;

const listTasks: Operation = {
  id: "listTasks",
  tag: "Tasks",
  summary: "List and search tasks",
  description:
    "The key's own tasks, newest first; all conditions must hold. Dead letters are the tasks of `status=FAILURE`. The " +
    "list may lag by a second: a task appears about a second after it was accepted, or at once when it has ended. " +
    "Pages do not shift while new tasks arrive. A search (model, priority, q, metadata) looks at 50,000 tasks a page " +
    "and a page of one open state at 500, so a page may hold fewer than `limit` while `has_more` is true: go on with " +
    "`next_cursor`. Together with `status` a search is quick, unless that is SUCCESS. A name that is not listed here, " +
    "or is given twice, is refused.",
  parameters: [
    ...Object.entries(plain).map(([name, schema]) => query(name, schema)),
    query("q", q, "gardens night"),
    {
      name: "metadata.NAME",
      in: "query",
      description: "Tasks whose metadata field NAME has just this value. May be given for up to 16 names.",
      schema: { type: "string", maxLength: 512 },
      example: "4711",
    },
    query("created_after", created_after as { description: string }, "2026-11-21T10:00:00Z"),
    query("created_before", created_before as { description: string }, "2026-11-22T10:00:00Z"),
    query("limit", { ...listQuerySchema.properties.limit, default: pageDefault } as { description: string }),
    query("cursor", cursorSchema, exampleCursor),
  ],
  answers: {
    "200": {
      description: `A page of up to ${pageMax} tasks.`,
      content: {
        "application/json": {
          schema: { $ref: "#/components/schemas/TaskList" },
          example: { object: "list", data: [exampleTask], has_more: true, next_cursor: exampleCursor },
        },
      },
    },
  },
  errors: ["invalid_request", "broker_unavailable", "not_ready", "database_unavailable"],
};

const exampleRetry = "01jd5wq0c4y8h3b6m2k9s7v5tn";
const accepted = {
  task_id: exampleRetry,
  status: "PENDING",
  urls: {
    self: `/v1/tasks/${exampleRetry}`,
    events: `/v1/tasks/${exampleRetry}/events`,
    result: `/v1/tasks/${exampleRetry}/result`,
    cancel: `/v1/tasks/${exampleRetry}/cancel`,
  },
  retry_of: exampleTask.task_id,
};

const retryTask: Operation = {
  id: "retryTask",
  tag: "Tasks",
  summary: "Retry a task",
  description:
    "Accepts the request of a task that has ended once more, as a new task that names it in `retry_of`; the old one " +
    "stays as it is. Model, input, priority, limits, callback and metadata are those of the old one; it is due at once " +
    "and has the usual deadline. Each call makes a new task; with an `Idempotency-Key` repeats answer the same one. " +
    "Inputs are kept for TASK_TTL (24 h) after the end. A body is not looked at.",
  parameters: [
    {
      name: "id",
      in: "path",
      description: "Id of the task that has ended.",
      schema: { type: "string", pattern: taskIdPattern },
      example: exampleTask.task_id,
    },
    {
      name: "Idempotency-Key",
      in: "header",
      description: "The `client_request_id` of the new task.",
      schema: { type: "string", minLength: 1, maxLength: 255 },
      example: "retry-of-order-4711",
    },
  ],
  answers: {
    "200": json("This key was used for the same retry before: its task and its present status.", "Accepted", accepted),
    "202": json("The new task is accepted.", "Accepted", accepted, { Location: "Path of the new task." }),
  },
  errors: [
    "task_not_found",
    "task_not_finished",
    "input_expired",
    "unknown_model",
    "invalid_request",
    "idempotency_mismatch",
    "too_many_queued",
    "broker_unavailable",
    "queue_full",
    "storage_unavailable",
    "database_unavailable",
  ],
};

const bodyErrors = ["invalid_json", "request_timeout", "payload_too_large", "unsupported_media_type"] as const;
const bulkAdvice =
  `At most ${bulkMax.toLocaleString("en")} tasks and 20 seconds a call, newest first; while \`has_more\` is true, repeat ` +
  "it with `next_cursor`. It goes by the list of tasks, which may lag by a second, and leaves out what is accepted " +
  "after the first call.";

const cancelTasks: Operation = {
  id: "cancelTasks",
  tag: "Tasks",
  summary: "Cancel many tasks",
  description: `Cancels the key's own open tasks that match, as if one by one. May be repeated. ${bulkAdvice}`,
  body: { schema: "BulkCancel", example: { filter: { model: "superres-x4", metadata: { order: "4711" } } } },
  answers: {
    "200": json("What became of each.", "BulkResult", {
      object: "bulk_result",
      accepted: 1,
      skipped: 0,
      failed: 0,
      data: [{ task_id: exampleTask.task_id, outcome: "accepted" }],
      has_more: false,
      next_cursor: null,
    }),
  },
  errors: [...bodyErrors, "invalid_request", "broker_unavailable", "not_ready", "database_unavailable"],
};

const retryTasks: Operation = {
  id: "retryTasks",
  tag: "Tasks",
  summary: "Retry many tasks",
  description:
    "Retries the key's own ended tasks that match; without a status those that failed, the dead letters. A task is " +
    `retried in bulk once: repeating a call repeats no work, and names the task that was made. ${bulkAdvice}`,
  body: {
    schema: "BulkRetry",
    example: { filter: { model: "superres-x4", q: "fetch_status", created_after: "2026-11-21T00:00:00Z" }, limit: 500 },
  },
  answers: {
    "200": json("What became of each.", "BulkResult", {
      object: "bulk_result",
      accepted: 1,
      skipped: 0,
      failed: 0,
      data: [{ task_id: exampleTask.task_id, outcome: "accepted", retried_as: exampleRetry }],
      has_more: true,
      next_cursor: exampleCursor,
    }),
  },
  errors: [
    ...bodyErrors,
    "invalid_request",
    "too_many_queued",
    "broker_unavailable",
    "queue_full",
    "not_ready",
    "storage_unavailable",
    "database_unavailable",
  ],
};

export const findOperations = { listTasks, retryTask, cancelTasks, retryTasks };
