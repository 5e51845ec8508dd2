// The tables of token usage in the database of what gateways count: calls and tokens by key, hour, model and provider.
// Written in batches, with what changed of the keys' days (leases.ts), that count once however often they are sent; read
// by `GET /v1/usage`. It may be lost with the machine's power.
import type { SQL } from "bun";
import { inserted, write } from "../db/dialect.ts";
import { changeDays, type DayChange } from "./leases.ts";

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

/** Counts the batch, unless it has been counted before. `holder` is the gateway whose calls these are. */
export async function countBatch(sql: SQL, { id, rows, days }: Batch, holder: string, nowMs: number): Promise<void> {
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
      await changeDays(transaction, sorted.slice(from, from + ROWS_PER_STATEMENT), holder);
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
