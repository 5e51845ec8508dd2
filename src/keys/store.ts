// The table of API keys: made and changed by the `keys` command, read whole by gateways. A row holds digests and no
// secret. Every change raises one number, so that a gateway which asks twice a second reads the table only when it must.
import type { SQL } from "bun";
import { write } from "../db/dialect.ts";
import { AppError } from "../errors.ts";
import type { KeyEnvironment } from "./key-text.ts";
import { isScope, type Scope } from "./principal.ts";

/** Times are milliseconds since the epoch, null where there is none. */
export interface StoredKey {
  readonly id: string;
  readonly env: KeyEnvironment;
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** SHA-256 of the key's text, in hexadecimal. */
  readonly digest: string;
  /** The secret before the last rotation, good until `previousUntilMs`. */
  readonly previousDigest: string | null;
  readonly previousUntilMs: number | null;
  /** Requests a minute; null: as RATE_LIMIT_PER_MINUTE says; 0: no limit. */
  readonly ratePerMinute: number | null;
  /** Tokens in a UTC day; null: as TOKENS_PER_DAY says; 0: no limit. */
  readonly tokensPerDay: number | null;
  readonly createdMs: number;
  readonly expiresMs: number | null;
  readonly revokedMs: number | null;
}

/** Gateways hold the keys that are not revoked in memory, 0.5 KB each. */
export const KEYS_MAX = 10_000;

/** Throws `invalid_config` above KEYS_MAX. */
export async function insertKey(sql: SQL, key: StoredKey): Promise<void> {
  await changing(sql, async (transaction) => {
    const [row] = await transaction`SELECT count(*) AS keys FROM api_keys WHERE revoked_ms IS NULL`;
    if (Number(row.keys) >= KEYS_MAX) throw new AppError("invalid_config", `there are ${KEYS_MAX} keys: revoke some`);
    await transaction`INSERT INTO api_keys ${transaction(columnsOf(key))}`;
  });
}

/**
 * Gives the key another secret; the one before stays good until `previousUntilMs`, and one before that ends now. Throws
 * `key_not_found` for an id that does not exist or is revoked.
 */
export async function rotateKey(sql: SQL, id: string, digest: string, previousUntilMs: number): Promise<void> {
  await changing(sql, async (transaction) => {
    const rows = await transaction`
      UPDATE api_keys SET previous_digest = digest, previous_until_ms = ${previousUntilMs}, digest = ${digest}
      WHERE id = ${id} AND revoked_ms IS NULL RETURNING id`;
    if (rows.length === 0) throw notFound(id);
  });
}

/** For good. Throws `key_not_found`; idempotent: the first time stays. */
export async function revokeKey(sql: SQL, id: string, revokedMs: number): Promise<void> {
  await changing(sql, async (transaction) => {
    const rows = await transaction`
      UPDATE api_keys SET revoked_ms = coalesce(revoked_ms, ${revokedMs}) WHERE id = ${id} RETURNING id`;
    if (rows.length === 0) throw notFound(id);
  });
}

/** Newest first, revoked ones too. */
export async function listKeys(sql: SQL): Promise<StoredKey[]> {
  const rows: KeyRow[] = await sql`SELECT * FROM api_keys ORDER BY created_ms DESC, id`;
  return rows.map(keyOf);
}

/** Throws `key_not_found`. */
export async function readKey(sql: SQL, id: string): Promise<StoredKey> {
  const rows: KeyRow[] = await sql`SELECT * FROM api_keys WHERE id = ${id}`;
  const [row] = rows;
  if (!row) throw notFound(id);
  return keyOf(row);
}

/** The keys of this environment that are not revoked. */
export async function liveKeys(sql: SQL, env: KeyEnvironment): Promise<StoredKey[]> {
  const rows: KeyRow[] = await sql`
    SELECT * FROM api_keys WHERE revoked_ms IS NULL AND env = ${env} ORDER BY created_ms, id LIMIT ${KEYS_MAX}`;
  return rows.map(keyOf);
}

/** A number that each change of any key raises. */
export async function keysRevision(sql: SQL): Promise<number> {
  const [row] = await sql`SELECT revision FROM api_keys_revision WHERE name = 'api_keys'`;
  return Number(row.revision);
}

/** The number goes up first: that row is the lock by which changes follow one another. */
async function changing(sql: SQL, change: (transaction: SQL) => Promise<void>): Promise<void> {
  await write(sql, async (transaction) => {
    await transaction`UPDATE api_keys_revision SET revision = revision + 1 WHERE name = 'api_keys'`;
    await change(transaction);
  });
}

const notFound = (id: string): AppError => new AppError("key_not_found", `there is no key ${id}, or it is revoked`);

/** PostgreSQL's driver gives a BIGINT as text. */
interface KeyRow {
  readonly id: string;
  readonly env: KeyEnvironment;
  readonly name: string;
  readonly scopes: string;
  readonly digest: string;
  readonly previous_digest: string | null;
  readonly previous_until_ms: number | string | null;
  readonly rate_per_minute: number | string | null;
  readonly tokens_per_day: number | string | null;
  readonly created_ms: number | string;
  readonly expires_ms: number | string | null;
  readonly revoked_ms: number | string | null;
}

const numberOf = (value: number | string | null): number | null => (value === null ? null : Number(value));

const keyOf = (row: KeyRow): StoredKey => ({
  id: row.id,
  env: row.env,
  name: row.name,
  // A scope of a newer version gives nothing here.
  scopes: row.scopes.split(" ").filter(isScope),
  digest: row.digest,
  previousDigest: row.previous_digest,
  previousUntilMs: numberOf(row.previous_until_ms),
  ratePerMinute: numberOf(row.rate_per_minute),
  tokensPerDay: numberOf(row.tokens_per_day),
  createdMs: Number(row.created_ms),
  expiresMs: numberOf(row.expires_ms),
  revokedMs: numberOf(row.revoked_ms),
});

const columnsOf = (key: StoredKey): Record<string, string | number | null> => ({
  id: key.id,
  env: key.env,
  name: key.name,
  scopes: key.scopes.join(" "),
  digest: key.digest,
  previous_digest: key.previousDigest,
  previous_until_ms: key.previousUntilMs,
  rate_per_minute: key.ratePerMinute,
  tokens_per_day: key.tokensPerDay,
  created_ms: key.createdMs,
  expires_ms: key.expiresMs,
  revoked_ms: key.revokedMs,
});
