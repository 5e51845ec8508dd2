// What OpenAPI says about the operations of webhooks. Data only; webhooks.ts points here.
import { exampleId, json, taskId } from "./operations.ts";
import type { Operation } from "./route.ts";

const delivered = {
  webhook_id: `${exampleId}_mi8xk3pc_completed`,
  event: "task.completed",
  url: "https://example.com/hooks/millrace",
  status: "delivered",
  created_at: "2026-11-21T10:00:01.032Z",
  next_attempt_at: null,
  attempts: [
    { at: "2026-11-21T10:00:01.034Z", duration_ms: 15_000, status_code: null, error: "fetch_timeout" },
    { at: "2026-11-21T10:00:21.480Z", duration_ms: 83, status_code: 204, error: null },
  ],
};
const due = { ...delivered, status: "pending", next_attempt_at: "2026-11-21T11:00:00.000Z" };
const secrets = {
  object: "list",
  data: [
    { secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDpzoqeITtYM4=", expires_at: null },
    { secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwzhGUsVbSH0A=", expires_at: "2026-11-22T10:00:00.000Z" },
  ],
};

const listDeliveries: Operation = {
  id: "listTaskDeliveries",
  tag: "Webhooks",
  summary: "What was sent of a task",
  description:
    "The webhook of a task's end with every attempt: when, what was answered, when the next one comes. Empty for a task " +
    "without a callback_url, or one that has not ended. The body of a webhook is `{type, timestamp, data}`, where data " +
    "is the task as GET /v1/tasks/{id} answers it; an answer of 2xx within 15 s is success, redirects are not followed. " +
    "Attempts come at once and after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 14 h more (a setting of the operator's), or " +
    "later where Retry-After says so; 410 ends them. A webhook may arrive more than once, always with the same webhook-id.",
  parameters: [taskId],
  answers: { "200": json("The deliveries.", "DeliveryList", { object: "list", data: [delivered] }) },
  errors: ["task_not_found", "broker_unavailable", "database_unavailable"],
};

const redeliver: Operation = {
  id: "redeliverTask",
  tag: "Webhooks",
  summary: "Send a webhook again",
  description:
    "Sends the webhook of a task's end again, now, whatever came of it before: the same body and webhook-id, a new " +
    "timestamp and signature, and the whole row of attempts until it is answered with success. No body is needed.",
  parameters: [taskId],
  answers: { "202": json("It is sent at once.", "Delivery", due) },
  errors: ["task_not_found", "no_delivery", "invalid_request", "broker_unavailable", "database_unavailable"],
};

const listSecrets: Operation = {
  id: "listWebhookSecrets",
  tag: "Webhooks",
  summary: "The secrets that sign",
  description:
    "What the webhooks of this API key are signed with (Standard Webhooks, HMAC-SHA256). A webhook carries a signature of " +
    "each; one that verifies is enough.",
  answers: { "200": json("The secrets, the newest first.", "WebhookSecretList", secrets) },
  errors: ["invalid_request", "database_unavailable"],
};

const rotateSecret: Operation = {
  id: "rotateWebhookSecret",
  tag: "Webhooks",
  summary: "A new secret",
  description:
    "Makes a new secret for this API key. The former one signs along for 24 hours, so that receivers can change over; " +
    "one that was former already signs no more.",
  answers: { "201": json("The secrets, the new one first.", "WebhookSecretList", secrets) },
  errors: ["invalid_request", "database_unavailable"],
};

export const webhookOperations = { listDeliveries, redeliver, listSecrets, rotateSecret };
