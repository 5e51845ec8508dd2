// What OpenAPI says about the routes of a task's data. Data only.
import { taskId } from "./operations.ts";
import type { Operation } from "./route.ts";

export const taskDataOperations = {
  createTaskLinks: {
    id: "createTaskLinks",
    tag: "Tasks",
    summary: "Make links",
    description:
      "Addresses of the task's events and result that carry their own permission: for an EventSource, a download in a " +
      "browser, or somebody without a key. Each reads one path until it ends, or until the key that asked does.",
    parameters: [taskId],
    body: { schema: "LinksRequest", example: { expires_in_s: 300 } },
    answers: {
      "200": {
        description: "The links, relative to this origin.",
        content: {
          "application/json": {
            schema: { $ref: "#/components/schemas/Links" },
            example: {
              events: `/v1/tasks/${taskId.example}/events?ticket=t5x2k0.alice.6u3qk1yYw0m3k0yJm2W8nA`,
              result: `/v1/tasks/${taskId.example}/result?ticket=t5x2k0.alice.2k8Zr4vQ9cXb7tLpD1sHfg`,
              expires_at: "2026-11-21T10:05:00.000Z",
            },
          },
        },
      },
    },
    errors: [
      "task_not_found",
      "invalid_json",
      "invalid_request",
      "payload_too_large",
      "request_timeout",
      "unsupported_media_type",
      "broker_unavailable",
      "not_ready",
      "database_unavailable",
    ],
  },
  deleteTaskData: {
    id: "deleteTaskData",
    tag: "Tasks",
    summary: "Delete a task's data",
    description:
      "Erases input and result of a task that has ended: the stored files, the records in the broker, its events, what " +
      "a search finds, and what webhooks still have to send. That the task was, how it ended and its metadata stay " +
      "until HISTORY_TTL. Idempotent; after an error call it again. Uploaded files stay: DELETE /v1/files/{id}.",
    parameters: [taskId],
    answers: {
      "200": {
        description: "The task as it is shown from now on.",
        content: {
          "application/json": {
            schema: { $ref: "#/components/schemas/Task" },
            example: {
              task_id: taskId.example,
              status: "SUCCESS",
              model: "superres-x4",
              priority: "high",
              attempt: 1,
              created_at: "2026-11-21T10:00:00.000Z",
              started_at: "2026-11-21T10:00:00.001Z",
              finished_at: "2026-11-21T10:00:01.031Z",
              metadata: {},
              data_deleted_at: "2026-11-21T11:00:00.000Z",
            },
          },
        },
      },
    },
    errors: [
      "task_not_found",
      "task_not_finished",
      "not_ready",
      "broker_unavailable",
      "storage_unavailable",
      "database_unavailable",
    ],
  },
} satisfies Record<string, Operation>;
