// Sends what is due: claims rows, posts each signed, and writes down what came of it. Any number of gateways do this on
// one database; a lease keeps two from sending the same at once, and runs out when its holder dies. A delivery may
// arrive twice (the answer was lost, the process died), always under the same webhook-id; it is never given up in
// silence.
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";
import { AppError, asAppError, messageOf } from "../errors.ts";
import { randomToken } from "../ids.ts";
import type { Log } from "../log.ts";
import { type PostOptions, post } from "../net/post.ts";
import type { CallbackRules } from "../net/public-url.ts";
import { createLanes } from "./lanes.ts";
import type { AttemptMade } from "./metrics.ts";
import { judge, type Outcome } from "./schedule.ts";
import { signingKeys } from "./secrets.ts";
import { signedHeaders } from "./signature.ts";
import { type Claimed, claim, deleteOld, findDue, release, settle } from "./store.ts";

export interface DeliverOptions {
  readonly sql: SQL;
  /** The operator's secrets; the first is the newest. */
  readonly secrets: readonly string[];
  /** Waits between the attempts of a round. */
  readonly retryMs: readonly number[];
  readonly rules: CallbackRules;
  /** Deliveries that are over are deleted when they are so old. */
  readonly keepMs: number;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly log: Log;
  /** Told of each attempt when it has been written down. */
  readonly onAttempt?: (attempt: AttemptMade) => void;
  /** For tests: who is trusted and how names are resolved. */
  readonly connect?: Pick<PostOptions, "ca" | "resolve" | "totalMs">;
}

export interface Deliverer {
  /** Looks for what is due, now. */
  wake(): void;
  /** Cuts off what is under way and gives it back. */
  stop(): Promise<void>;
}

/** Attempts of other rounds and gateways are found so soon after they are due. */
const LOOK_EVERY_MS = 1_000;
const CLEAN_EVERY_MS = 3_600_000;
/** Longer than an attempt can take; a dead gateway's are free after it. */
const LEASE_MS = 30_000;

export function startDeliverer(options: DeliverOptions): Deliverer {
  const { sql, clock, log } = options;
  const lanes = createLanes();
  const stopping = new AbortController();
  const underWay = new Set<Promise<void>>();
  let looking: Promise<void> | null = null;
  let again = false;

  const look = async (): Promise<void> => {
    for (;;) {
      const room = lanes.room();
      if (room === 0 || stopping.signal.aborted) return;
      const now = clock.now();
      const due = await findDue(sql, now, lanes.fullHosts(), lanes.fullKeys(), room);
      const entered = lanes.enter(due);
      if (entered.length === 0) return;
      const lease = randomToken();
      const ids = entered.map(({ id }) => id);
      const claimed = await claim(sql, ids, lease, now, now + LEASE_MS).catch((error) => {
        entered.forEach(lanes.leave);
        throw error;
      });
      const mine = new Set(claimed.map(({ id }) => id));
      for (const other of entered) if (!mine.has(other.id)) lanes.leave(other);
      for (const delivery of claimed) begin(delivery, lease);
    }
  };
  const begin = (delivery: Claimed, lease: string): void => {
    const work = attempt(options, delivery, lease, stopping.signal)
      .catch((error) =>
        log.error({ task_id: delivery.taskId, error: messageOf(error) }, "webhook is tried again later"),
      )
      .finally(() => {
        underWay.delete(work);
        lanes.leave(delivery);
        wake();
      });
    underWay.add(work);
  };
  const wake = (): void => {
    if (stopping.signal.aborted) return;
    again = true;
    looking ??= (async () => {
      while (again) {
        again = false;
        await look();
      }
    })()
      .catch((error) => log.warn({ error: messageOf(error) }, "webhooks cannot be looked for; trying again"))
      .finally(() => {
        looking = null;
      });
  };
  const clean = (): void => {
    deleteOld(sql, clock.now() - options.keepMs).catch((error) =>
      log.warn({ error: messageOf(error) }, "old webhook deliveries stay for now"),
    );
  };
  const lookTimer = setInterval(wake, LOOK_EVERY_MS);
  const cleanTimer = setInterval(clean, CLEAN_EVERY_MS);
  clean();
  wake();
  return {
    wake,
    async stop() {
      clearInterval(lookTimer);
      clearInterval(cleanTimer);
      stopping.abort(new AppError("not_ready", "this process is shutting down"));
      await looking;
      await Promise.all(underWay);
    },
  };
}

async function attempt(options: DeliverOptions, delivery: Claimed, lease: string, signal: AbortSignal): Promise<void> {
  const { sql, clock, log } = options;
  const atMs = clock.now();
  const fromMs = clock.monotonicMs();
  const outcome = await send(options, delivery, atMs, signal);
  if (outcome === null) return release(sql, delivery.id, lease);
  const durationMs = Math.round(clock.monotonicMs() - fromMs);
  const tries = delivery.tries + 1;
  const verdict = judge(outcome, tries, options.retryMs, clock.now(), options.random());
  const { status, error } = outcome;
  await settle(
    sql,
    delivery.id,
    lease,
    { atMs, durationMs, status, error },
    {
      state: verdict.kind === "again" ? "pending" : verdict.kind,
      nextMs: verdict.kind === "again" ? verdict.atMs : null,
    },
  );
  options.onAttempt?.({ outcome: verdict.kind, durationMs });
  const fields = { task_id: delivery.taskId, host: delivery.host, tries, status, code: error, duration_ms: durationMs };
  if (verdict.kind === "delivered") log.info(fields, "webhook delivered");
  else if (verdict.kind === "failed") log.warn(fields, "webhook failed for good");
  else log.warn({ ...fields, retry_in_ms: verdict.atMs - clock.now() }, "webhook failed");
}

/** What is posted, when and by whom: the same for deliveries and for what is told on the way. */
export type Sending = Pick<Claimed, "id" | "keyId" | "url" | "body">;

/** Null where `signal` ended it. */
export async function send(
  options: Pick<DeliverOptions, "sql" | "secrets" | "rules" | "connect">,
  { id, keyId, url, body }: Sending,
  nowMs: number,
  signal: AbortSignal,
): Promise<Outcome | null> {
  const keys = await signingKeys(options.sql, options.secrets, keyId, nowMs);
  const headers = signedHeaders(keys, id, nowMs, body);
  try {
    const { status, retryAfter } = await post(url, headers, body, { ...options.rules, ...options.connect, signal });
    return { status, error: null, retryAfter };
  } catch (error) {
    if (signal.aborted) return null;
    return { status: null, error: asAppError(error)?.code ?? "fetch_failed", retryAfter: null };
  }
}
