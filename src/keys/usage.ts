// What gateways count of keys, together and without fsync: when a key was last used. It may be lost with the machine's
// power, so it lies apart from the keys themselves.
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
