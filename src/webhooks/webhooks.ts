// What the API can do with webhooks: show what was sent of a task, send it again, show and rotate the secret that
// signs. The sending itself goes on elsewhere (sender-thread.ts), on the same rows. Nothing here says whether a task
// exists: callers have asked the tasks first.
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import { type CallbackRules, callbackProblem } from "../net/public-url.ts";
import { webhookBody } from "./body.ts";
import { rotateSecret, type SigningSecret, showSecrets } from "./secrets.ts";
import { type Delivery, deliveriesOf, makeDue, replaceBodies } from "./store.ts";

export interface Webhooks {
  /** Why a task cannot be accepted with this callback_url, for the client; null when it can. */
  urlProblem(url: string): string | null;
  /** What was and will be sent of a task of this key, the newest first; empty for one without a callback. */
  deliveries(taskId: string, keyId: string): Promise<readonly Delivery[]>;
  /**
   * The newest delivery of a task becomes due now, with a whole round of attempts. Throws `no_delivery`, and
   * `invalid_request` where the operator has set no WEBHOOK_SECRET.
   */
  redeliver(taskId: string, keyId: string): Promise<Delivery>;
  /** What was to be sent of a task, and what can be sent again, is `dataJson` from now on. */
  erase(taskId: string, keyId: string, dataJson: string): Promise<void>;
  /** What signs for this key, the newest first. Throws `invalid_request` where the operator has set no WEBHOOK_SECRET. */
  secrets(keyId: string): Promise<readonly SigningSecret[]>;
  /** A new secret for this key; the former signs along for a day, the one before it no more. */
  rotate(keyId: string): Promise<readonly SigningSecret[]>;
}

export interface WebhooksOptions {
  readonly sql: SQL;
  /** The operator's secrets, the newest first; none turns webhooks off. */
  readonly secrets: readonly string[];
  readonly rules: CallbackRules;
  readonly clock: Clock;
  /** Called when a delivery is due now. */
  readonly onDue: () => void;
}

export function createWebhooks({ sql, secrets, rules, clock, onDue }: WebhooksOptions): Webhooks {
  const off = "this gateway sends no webhooks: its operator has set no WEBHOOK_SECRET";
  const checkOn = (): void => {
    if (secrets.length === 0) throw new AppError("invalid_request", `There is no secret to sign with: ${off}.`);
  };
  const show = async (keyId: string): Promise<readonly SigningSecret[]> => {
    checkOn();
    return showSecrets(sql, secrets, keyId, clock.now());
  };
  return {
    urlProblem: (url) => (secrets.length === 0 ? off : callbackProblem(url, rules)),
    deliveries: (taskId, keyId) => deliveriesOf(sql, taskId, keyId),
    async redeliver(taskId, keyId) {
      checkOn();
      const [newest] = await deliveriesOf(sql, taskId, keyId);
      if (!newest) {
        throw new AppError(
          "no_delivery",
          "There is nothing to send: the task named no callback_url, or has not ended.",
        );
      }
      const now = clock.now();
      await makeDue(sql, newest.id, now);
      onDue();
      return { ...newest, state: "pending", nextMs: now };
    },
    erase: (taskId, keyId, dataJson) =>
      replaceBodies(sql, taskId, keyId, webhookBody("task.completed", clock.now(), dataJson)),
    secrets: show,
    async rotate(keyId) {
      checkOn();
      await rotateSecret(sql, keyId, clock.now());
      return show(keyId);
    },
  };
}
