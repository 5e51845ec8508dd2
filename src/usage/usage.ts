// The ledger of a gateway: every call of a language model is counted in the shared database, and calls of keys that have
// a quota reserve before they begin. Opened by the gateway's composition root; asked around each call, by the service
// that takes what actors counted, and by `GET /v1/usage`.
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { createBatches } from "./batches.ts";
import { openHolders } from "./holders.ts";
import { takeTokens } from "./leases.ts";
import type { Ledger } from "./ledger.ts";
import { createQuotas, dayOf, usedUp } from "./quotas.ts";
import { readUsage, tokensOfDay, type UsageQuery, type UsageSum } from "./report.ts";
import { countBatch, DAY_MS, HOUR_MS, prune, type UsageRow } from "./store.ts";

export interface QuotaState {
  readonly limit: number;
  /** By calls that have ended. */
  readonly used: number;
  /** Never below zero. */
  readonly remaining: number;
  /** Midnight UTC, milliseconds since the epoch. */
  readonly resetsMs: number;
}

export interface Usage extends Ledger {
  /** Counts what an actor has counted, once for each id, against the quotas of the keys too. Throws as the database does. */
  count(id: string, rows: readonly UsageRow[]): Promise<void>;
  /** Throws `insufficient_quota` where the calls of the key that have ended used up its day. */
  requireQuota(keyId: string): Promise<void>;
  /** Calls that ended here are in it; those of other gateways and of actors about a second later. */
  report(query: UsageQuery): Promise<UsageSum[]>;
  /** Null where the key has no quota. */
  quotaOf(keyId: string): Promise<QuotaState | null>;
  /** Writes what is counted, and gives back what is held of the quotas. The database must still be open. */
  stop(): Promise<void>;
}

export interface UsageOptions {
  /** The database of what gateways count. */
  readonly sql: SQL;
  /** Tokens that the key may use in a day; 0: no limit. */
  readonly limitOf: (keyId: string) => number;
  readonly clock: Clock;
  readonly log: Log;
}

/** A year of invoices, and the month in which somebody asks about them. A busy key and model is 1 MB of rows a year. */
export const USAGE_KEPT_MS = 400 * DAY_MS;
/** A batch comes again within seconds of the return of the database, or of a gateway. */
const BATCHES_KEPT_MS = DAY_MS;

export function openUsageLedger({ sql, limitOf, clock, log }: UsageOptions): Usage {
  const holder = crypto.randomUUID();
  const holders = openHolders(sql, holder, log);
  const quotas = createQuotas({ take: (wishes) => takeTokens(sql, wishes, holder), clock, log });
  let prunedHour = Number.NEGATIVE_INFINITY;
  const pruneHourly = async (): Promise<void> => {
    const nowMs = clock.now();
    const hour = Math.floor(nowMs / HOUR_MS);
    if (hour === prunedHour) return;
    prunedHour = hour;
    await prune(sql, nowMs - USAGE_KEPT_MS, nowMs - BATCHES_KEPT_MS).catch((error) => {
      log.warn({ error: messageOf(error) }, "old token usage is deleted later");
    });
  };
  const batches = createBatches({
    async send(batch) {
      await countBatch(sql, batch, holder, clock.now());
      await pruneHourly();
    },
    days: quotas.changes,
    clock,
    log,
  });
  return {
    reserve(keyId, estimate) {
      const limit = limitOf(keyId);
      return limit === 0 ? null : quotas.reserve(keyId, limit, estimate());
    },
    record: batches.record,
    async count(id, rows) {
      const dayMs = dayOf(clock.now());
      const tokens = new Map<string, number>();
      for (const row of rows) {
        if (dayOf(row.hourMs) !== dayMs || limitOf(row.keyId) === 0) continue;
        tokens.set(row.keyId, (tokens.get(row.keyId) ?? 0) + row.promptTokens + row.completionTokens);
      }
      const days = [...tokens].map(([keyId, used]) => ({ keyId, dayMs, tokens: used, used }));
      await countBatch(sql, { id, rows, days }, holder, clock.now());
    },
    async requireQuota(keyId) {
      const limit = limitOf(keyId);
      const nowMs = clock.now();
      if (limit > 0 && (await tokensOfDay(sql, keyId, dayOf(nowMs))) >= limit) throw usedUp(limit, nowMs);
    },
    async report(query) {
      await batches.flush();
      return readUsage(sql, query);
    },
    async quotaOf(keyId) {
      const limit = limitOf(keyId);
      if (limit === 0) return null;
      await batches.flush();
      const dayMs = dayOf(clock.now());
      const used = await tokensOfDay(sql, keyId, dayMs);
      return { limit, used, remaining: Math.max(0, limit - used), resetsMs: dayMs + DAY_MS };
    },
    async stop() {
      const lost = await batches.stop();
      if (lost.length > 0) log.error({ batches: lost.length }, "token usage of the last moments is lost");
      await holders.stop();
    },
  };
}
