// What gateways count of keys, together and without fsync: when a key was last used, and how much of its minute is taken.
// It may be lost with the machine's power, so it lies apart from the keys themselves.
import type { SQL } from "bun";

/** Key id to milliseconds since the epoch, to the minute; a time never goes back. */
export async function saveLastUsed(sql: SQL, times: ReadonlyMap<string, number>): Promise<void> {
  const rows = [...times].map(([key_id, last_used_ms]) => ({ key_id, last_used_ms }));
  await sql`
    INSERT INTO key_usage ${sql(rows)}
    ON CONFLICT (key_id) DO UPDATE SET last_used_ms = excluded.last_used_ms
    WHERE key_usage.last_used_ms < excluded.last_used_ms`;
}

export async function readLastUsed(sql: SQL): Promise<Map<string, number>> {
  const rows: { key_id: string; last_used_ms: number | string }[] = await sql`
    SELECT key_id, last_used_ms FROM key_usage`;
  return new Map(rows.map((row) => [row.key_id, Number(row.last_used_ms)]));
}

/** Of the rate limit. */
export const WINDOW_MS = 60_000;

export interface Wish {
  readonly keyId: string;
  readonly units: number;
  /** By the clock of the gateway that asks; clocks that differ by a second move the end of a window by one. */
  readonly nowMs: number;
}

/** A minute of a key, which began at `startedMs`: gateways have taken `taken` units of it, perhaps above its limit. */
export interface Window {
  readonly startedMs: number;
  readonly taken: number;
}

/** Takes units for each key, once each, out of its window or out of a new one. By key id, as they are afterwards. */
export async function takeShares(sql: SQL, wishes: readonly Wish[]): Promise<Map<string, Window>> {
  // In one order on every gateway: rows are locked as they come, and two that cross would wait for each other.
  const rows = wishes
    .map(({ keyId, units, nowMs }) => ({ key_id: keyId, started_ms: nowMs, leased: units }))
    .sort((a, b) => (a.key_id < b.key_id ? -1 : 1));
  const windows: { key_id: string; started_ms: number | string; leased: number | string }[] = await sql`
    INSERT INTO rate_windows ${sql(rows)}
    ON CONFLICT (key_id) DO UPDATE SET
      leased = CASE WHEN rate_windows.started_ms + ${WINDOW_MS} <= excluded.started_ms
        THEN excluded.leased ELSE rate_windows.leased + excluded.leased END,
      started_ms = CASE WHEN rate_windows.started_ms + ${WINDOW_MS} <= excluded.started_ms
        THEN excluded.started_ms ELSE rate_windows.started_ms END
    RETURNING key_id, started_ms, leased`;
  return new Map(windows.map((row) => [row.key_id, { startedMs: Number(row.started_ms), taken: Number(row.leased) }]));
}
