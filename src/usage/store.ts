// The tables of token usage in the database of what gateways count: calls and tokens by key, hour, model and provider,
// and what gateways have taken of each key's day. Written in batches that count once however often they are sent; read
// by `GET /v1/usage`. It may be lost with the machine's power.
import type { SQL } from "bun";
import { inserted, write } from "../db/dialect.ts";

export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;

/** Calls that ended within one UTC hour. */
export interface UsageRow {
  readonly keyId: string;
  /** Where the hour begins, milliseconds since the epoch. */
  readonly hourMs: number;
  readonly model: string;
  readonly provider: string;
  readonly requests: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

/** Tokens taken of a key's day, or given back (negative). */
export interface DayChange {
  readonly keyId: string;
  readonly dayMs: number;
  readonly tokens: number;
}

export interface Batch {
  /** Unique for ever. */
  readonly id: string;
  /** No two of the same key, hour, model and provider. */
  readonly rows: readonly UsageRow[];
  /** No two of the same key. */
  readonly days: readonly DayChange[];
}

/** Keeps one statement below SQLite's 32,766 parameters. */
const ROWS_PER_STATEMENT = 1_000;

/** Counts the batch, unless it has been counted before. */
export async function countBatch(sql: SQL, { id, rows, days }: Batch, nowMs: number): Promise<void> {
  await write(sql, async (transaction) => {
    const fresh = await transaction`
      INSERT INTO usage_batches (batch_id, counted_ms) VALUES (${id}, ${nowMs})
      ON CONFLICT (batch_id) DO NOTHING RETURNING batch_id`;
    if (fresh.length === 0) return;
    // In one order on every gateway: rows are locked as they come, and two that cross would wait for each other.
    const uses = rows.map(columnsOf).sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
    for (let from = 0; from < uses.length; from += ROWS_PER_STATEMENT) {
      await addUses(transaction, uses.slice(from, from + ROWS_PER_STATEMENT));
    }
    const sorted = [...days].sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
    for (let from = 0; from < sorted.length; from += ROWS_PER_STATEMENT) {
      await changeDays(transaction, sorted.slice(from, from + ROWS_PER_STATEMENT));
    }
  });
}

async function addUses(sql: SQL, uses: readonly ReturnType<typeof columnsOf>[]): Promise<void> {
  await sql`
    INSERT INTO token_usage ${inserted(sql, "token_usage", uses)}
    ON CONFLICT (key_id, hour_ms, model, provider) DO UPDATE SET
      requests = token_usage.requests + excluded.requests,
      prompt_tokens = token_usage.prompt_tokens + excluded.prompt_tokens,
      completion_tokens = token_usage.completion_tokens + excluded.completion_tokens,
      cached_tokens = token_usage.cached_tokens + excluded.cached_tokens`;
}

/** A change of a day that is over changes nothing. */
async function changeDays(sql: SQL, changes: readonly DayChange[]): Promise<void> {
  const rows = changes.map(({ keyId, dayMs, tokens }) => ({
    key_id: keyId,
    day_ms: dayMs,
    leased: tokens,
    granted: 0,
    day_limit: 0,
  }));
  await sql`
    INSERT INTO token_days ${inserted(sql, "token_days", rows)}
    ON CONFLICT (key_id) DO UPDATE SET
      leased = CASE WHEN token_days.day_ms = excluded.day_ms THEN token_days.leased + excluded.leased
        ELSE excluded.leased END,
      day_ms = excluded.day_ms
    WHERE token_days.day_ms <= excluded.day_ms`;
}

export interface Wish {
  readonly keyId: string;
  readonly tokens: number;
  readonly limit: number;
  /** The day by the clock of the gateway that asks. */
  readonly dayMs: number;
}

/** A key's day after a wish: all gateways have `leased` of it, of which this wish got `granted`. */
export interface Day {
  readonly dayMs: number;
  readonly leased: number;
  readonly granted: number;
}

/** Takes tokens for each key, once each, as far as its limit has them. By key id. */
export async function takeTokens(sql: SQL, wishes: readonly Wish[]): Promise<Map<string, Day>> {
  const rows = wishes
    .map(({ keyId, tokens, limit, dayMs }) => {
      const granted = Math.min(tokens, limit);
      return { key_id: keyId, day_ms: dayMs, leased: granted, granted, day_limit: limit };
    })
    .sort((a, b) => (a.key_id < b.key_id ? -1 : 1));
  const days: { key_id: string; day_ms: number | string; leased: number | string; granted: number | string }[] =
    await sql`
      INSERT INTO token_days ${inserted(sql, "token_days", rows)}
      ON CONFLICT (key_id) DO UPDATE SET
        granted = CASE WHEN token_days.day_ms < excluded.day_ms THEN excluded.granted
          WHEN token_days.leased >= excluded.day_limit THEN 0
          WHEN token_days.leased + excluded.granted > excluded.day_limit THEN excluded.day_limit - token_days.leased
          ELSE excluded.granted END,
        leased = CASE WHEN token_days.day_ms < excluded.day_ms THEN excluded.leased
          WHEN token_days.leased >= excluded.day_limit THEN token_days.leased
          WHEN token_days.leased + excluded.granted > excluded.day_limit THEN excluded.day_limit
          ELSE token_days.leased + excluded.granted END,
        day_ms = CASE WHEN token_days.day_ms < excluded.day_ms THEN excluded.day_ms ELSE token_days.day_ms END,
        day_limit = excluded.day_limit
      RETURNING key_id, day_ms, leased, granted`;
  return new Map(
    days.map((row) => [
      row.key_id,
      { dayMs: Number(row.day_ms), leased: Number(row.leased), granted: Number(row.granted) },
    ]),
  );
}

/** Deletes usage of hours before `hoursBeforeMs` and forgets batches counted before `batchesBeforeMs`. */
export async function prune(sql: SQL, hoursBeforeMs: number, batchesBeforeMs: number): Promise<void> {
  await sql`DELETE FROM token_usage WHERE hour_ms < ${hoursBeforeMs}`;
  await sql`DELETE FROM usage_batches WHERE counted_ms < ${batchesBeforeMs}`;
}

const columnsOf = (row: UsageRow) => ({
  key_id: row.keyId,
  hour_ms: row.hourMs,
  model: row.model,
  provider: row.provider,
  requests: row.requests,
  prompt_tokens: row.promptTokens,
  completion_tokens: row.completionTokens,
  cached_tokens: row.cachedTokens,
});

const orderOf = (row: ReturnType<typeof columnsOf>): string =>
  `${row.key_id}\n${row.hour_ms}\n${row.model}\n${row.provider}`;
