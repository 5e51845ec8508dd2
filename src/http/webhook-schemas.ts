// The JSON Schemas of what the routes of webhooks answer. Pure data; schemas.ts lists them with the others.

const time = (what: string): object => ({ type: "string", format: "date-time", description: `${what} (RFC 3339).` });
const maybeTime = (what: string): object => ({ ...time(what), type: ["string", "null"] });

const delivery = {
  type: "object",
  description: "A webhook of a task and what came of sending it.",
  required: ["webhook_id", "event", "url", "status", "created_at", "next_attempt_at", "attempts"],
  properties: {
    webhook_id: { type: "string", description: "The `webhook-id` header: the same on every attempt." },
    event: { type: "string", const: "task.completed", description: "The `type` of the body." },
    url: { type: "string", description: "Where it goes: the callback_url without its query." },
    status: {
      type: "string",
      enum: ["pending", "delivered", "failed"],
      description:
        "`pending`: another attempt is to come. `delivered`: answered with 2xx. `failed`: the receiver answered 410, the " +
        "URL leads to no public address, or the last attempt has failed.",
    },
    created_at: time("When the delivery was made"),
    next_attempt_at: maybeTime("When it is sent next; null when it is not"),
    attempts: {
      type: "array",
      description: "What was tried, the oldest first; the last 500 of a task.",
      items: {
        type: "object",
        required: ["at", "duration_ms", "status_code", "error"],
        properties: {
          at: time("When it began"),
          duration_ms: { type: "integer", minimum: 0, description: "Milliseconds to the answer, or until it failed." },
          status_code: { type: ["integer", "null"], description: "HTTP status of the answer; null without one." },
          error: {
            type: ["string", "null"],
            description: "Why there was no answer: fetch_timeout, fetch_failed or fetch_blocked; null with one.",
          },
        },
      },
    },
  },
};

const secret = {
  type: "object",
  description: "A secret that signs this key's webhooks.",
  required: ["secret", "expires_at"],
  properties: {
    secret: { type: "string", description: "`whsec_` and base64, as libraries of Standard Webhooks take it." },
    expires_at: maybeTime("After which it signs no more; null without an end"),
  },
};

const listOf = (schema: string, description: string): object => ({
  type: "object",
  description,
  required: ["object", "data"],
  properties: {
    object: { type: "string", const: "list", description: "Always `list`." },
    data: { type: "array", description, items: { $ref: `#/components/schemas/${schema}` } },
  },
});

export const webhookSchemas: Readonly<Record<string, object>> = {
  Delivery: delivery,
  DeliveryList: listOf("Delivery", "The webhooks of a task, the newest first."),
  WebhookSecret: secret,
  WebhookSecretList: listOf("WebhookSecret", "The secrets that sign now, the newest first."),
};
