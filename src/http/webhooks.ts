// The routes of webhooks: what was sent of a task, sending it again, and the secret that signs. A task of another key
// is unknown here as everywhere; a URL is shown without its query, which may hold a secret of the receiver's.
import { rfc3339 } from "../clock.ts";
import type { Tasks } from "../tasks/tasks.ts";
import type { SigningSecret } from "../webhooks/secrets.ts";
import type { Delivery } from "../webhooks/store.ts";
import type { Webhooks } from "../webhooks/webhooks.ts";
import { type KeyedCall, type KeyedRoute, replyJson, taskIdOf } from "./route.ts";
import { webhookOperations } from "./webhook-operations.ts";

export function webhookRoutes(tasks: Tasks, webhooks: Webhooks): readonly KeyedRoute[] {
  const ofTask = { access: "key", path: "/v1/tasks/{id}/deliveries" } as const;
  // Whoever may submit may know what signs the answers.
  const ofKey = { access: "key", path: "/v1/webhooks/secrets", scope: "tasks:write" } as const;
  /** The id of a task that this key owns. Throws `task_not_found`. */
  const ownTask = async (call: KeyedCall): Promise<string> => (await tasks.read(taskIdOf(call), call.owner)).taskId;
  return [
    {
      ...ofTask,
      method: "GET",
      operation: webhookOperations.listDeliveries,
      async handle(call) {
        const deliveries = await webhooks.deliveries(await ownTask(call), call.owner.keyId);
        return replyJson(call, 200, JSON.stringify({ object: "list", data: deliveries.map(deliveryView) }));
      },
    },
    {
      ...ofTask,
      method: "POST",
      operation: webhookOperations.redeliver,
      async handle(call) {
        const delivery = await webhooks.redeliver(await ownTask(call), call.owner.keyId);
        return replyJson(call, 202, JSON.stringify(deliveryView(delivery)));
      },
    },
    {
      ...ofKey,
      method: "GET",
      operation: webhookOperations.listSecrets,
      handle: async (call) => replyJson(call, 200, secretsJson(await webhooks.secrets(call.owner.keyId))),
    },
    {
      ...ofKey,
      method: "POST",
      operation: webhookOperations.rotateSecret,
      handle: async (call) => replyJson(call, 201, secretsJson(await webhooks.rotate(call.owner.keyId))),
    },
  ];
}

const deliveryView = (delivery: Delivery): object => ({
  webhook_id: delivery.id,
  event: delivery.event,
  url: withoutQuery(delivery.url),
  status: delivery.state,
  created_at: rfc3339(delivery.createdMs),
  next_attempt_at: delivery.nextMs === null ? null : rfc3339(delivery.nextMs),
  attempts: delivery.attempts.map(({ atMs, durationMs, status, error }) => ({
    at: rfc3339(atMs),
    duration_ms: durationMs,
    status_code: status,
    error,
  })),
});

const withoutQuery = (url: string): string => url.replace(/[?#].*$/s, "");

const secretsJson = (secrets: readonly SigningSecret[]): string =>
  JSON.stringify({
    object: "list",
    data: secrets.map(({ secret, expiresMs }) => ({
      secret,
      expires_at: expiresMs === null ? null : rfc3339(expiresMs),
    })),
  });
