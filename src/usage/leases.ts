// The tokens that gateways have taken of each key's UTC day, and which of them still has how many, so that those of a
// gateway that is killed go back. Tables of the database of what gateways count; quotas.ts takes, batches of usage tell
// what was used and given back (store.ts), holders.ts finds the dead.
//
//   take: leased + n, the gateway's lease + n      used: lease - n      given back: leased - n, lease - n
//   the gateway is gone: leased - lease, no lease
//
// A lease that was taken back in error is no harm: its gateway goes on, and what it uses beyond its lease is added to
// `leased`. So when all calls have ended and nobody holds anything, `leased` is what was used, whoever died on the way.
import type { SQL, TransactionSQL } from "bun";
import { among, inserted, write } from "../db/dialect.ts";

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

/** What a gateway has done with a key's day since it told last. */
export interface DayChange {
  readonly keyId: string;
  readonly dayMs: number;
  /** Taken, or given back (negative). */
  readonly tokens: number;
  /** By calls that have ended. */
  readonly used: number;
}

/** PostgreSQL's driver gives a BIGINT as text. */
type Amount = number | string;

/**
 * Takes tokens for each key, once each, as far as its limit has them, for the gateway `holder`. By key id. Two statements
 * and no transaction, which would hold the one lock of SQLite between them: a gateway that is killed in that moment
 * leaves what it took until midnight.
 */
export async function takeTokens(sql: SQL, wishes: readonly Wish[], holder: string): Promise<Map<string, Day>> {
  const days = await takeOfDays(sql, wishes);
  const grants = [...days].flatMap(([keyId, { dayMs, granted }]) =>
    granted > 0 ? [{ keyId, dayMs, tokens: granted, used: 0 }] : [],
  );
  await changeLeases(sql, grants, holder);
  return days;
}

async function takeOfDays(sql: SQL, wishes: readonly Wish[]): Promise<Map<string, Day>> {
  const rows = wishes
    .map(({ keyId, tokens, limit, dayMs }) => {
      const granted = Math.min(tokens, limit);
      return { key_id: keyId, day_ms: dayMs, leased: granted, granted, day_limit: limit };
    })
    .sort((a, b) => (a.key_id < b.key_id ? -1 : 1));
  const days: { key_id: string; day_ms: Amount; leased: Amount; granted: Amount }[] = await sql`
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

/**
 * Applies what the gateway `holder` did, in the order of the keys: days are locked before leases, as everywhere. A change
 * of a day that is over changes nothing.
 */
export async function changeDays(sql: TransactionSQL, changes: readonly DayChange[], holder: string): Promise<void> {
  await addToDays(sql, changes);
  const ofLeases = changes.filter(({ tokens, used }) => tokens !== used);
  if (ofLeases.length === 0) return;
  const spent = (await changeLeases(sql, ofLeases, holder)).filter(({ tokens }) => tokens <= 0);
  if (spent.length === 0) return;
  await sql`
    DELETE FROM token_leases WHERE holder = ${holder} AND tokens <= 0
      AND key_id ${among(
        sql,
        spent.map(({ keyId }) => keyId),
      )}`;
  const beyond = spent.filter(({ tokens }) => tokens < 0).map((lease) => ({ ...lease, tokens: -lease.tokens }));
  if (beyond.length > 0) await addToDays(sql, beyond);
}

async function addToDays(sql: TransactionSQL, changes: readonly Omit<DayChange, "used">[]): Promise<void> {
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

/** The leases afterwards, of those that are not of a later day. Below zero: used beyond it. */
async function changeLeases(
  sql: SQL,
  changes: readonly DayChange[],
  holder: string,
): Promise<Omit<DayChange, "used">[]> {
  if (changes.length === 0) return [];
  const rows = changes.map(({ keyId, dayMs, tokens, used }) => ({
    holder,
    key_id: keyId,
    day_ms: dayMs,
    tokens: tokens - used,
  }));
  const leases: { key_id: string; day_ms: Amount; tokens: Amount }[] = await sql`
    INSERT INTO token_leases ${inserted(sql, "token_leases", rows)}
    ON CONFLICT (holder, key_id) DO UPDATE SET
      tokens = CASE WHEN token_leases.day_ms = excluded.day_ms THEN token_leases.tokens + excluded.tokens
        ELSE excluded.tokens END,
      day_ms = excluded.day_ms
    WHERE token_leases.day_ms <= excluded.day_ms
    RETURNING key_id, day_ms, tokens`;
  return leases.map((row) => ({ keyId: row.key_id, dayMs: Number(row.day_ms), tokens: Number(row.tokens) }));
}

/** Of a holder that has a lease and has never beaten, or was taken for dead. */
const NO_BEAT = -1;

/** Says that `holder` lives, and how often each of the others has said so. */
export async function beat(sql: SQL, holder: string): Promise<{ readonly holder: string; readonly beat: number }[]> {
  await sql`
    INSERT INTO token_holders (holder, beat) VALUES (${holder}, 0)
    ON CONFLICT (holder) DO UPDATE SET beat = token_holders.beat + 1`;
  const rows: { holder: string; beat: Amount }[] = await sql`
    SELECT holder, beat FROM token_holders WHERE holder <> ${holder}
    UNION ALL
    SELECT DISTINCT holder, ${sql.unsafe(String(NO_BEAT))} AS beat FROM token_leases
    WHERE holder NOT IN (SELECT holder FROM token_holders)`;
  return rows.map((row) => ({ holder: row.holder, beat: Number(row.beat) }));
}

/** Gives back whatever the gateway holds. False where it has beaten since `lastBeat`; null: it ends by itself. */
export async function release(sql: SQL, holder: string, lastBeat: number | null): Promise<boolean> {
  return write(sql, async (transaction) => {
    const [row]: { beat: Amount }[] = await transaction`SELECT beat FROM token_holders WHERE holder = ${holder}`;
    if (lastBeat !== null && Number(row?.beat ?? NO_BEAT) !== lastBeat) return false;
    await transaction`
      UPDATE token_days SET leased = leased -
        (SELECT tokens FROM token_leases WHERE holder = ${holder} AND key_id = token_days.key_id)
      WHERE EXISTS (SELECT 1 FROM token_leases
        WHERE holder = ${holder} AND key_id = token_days.key_id AND day_ms = token_days.day_ms)`;
    await transaction`DELETE FROM token_leases WHERE holder = ${holder}`;
    await transaction`DELETE FROM token_holders WHERE holder = ${holder}`;
    return true;
  });
}
