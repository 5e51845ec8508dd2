// Which secrets sign for an API key now: derived from each of the operator's, for the key's generation and, a day long
// after it rotated, for the one before. Of a rotation SQL holds the number and the time, nothing secret.
import type { SQL } from "bun";
import { keySecret, secretText } from "./signature.ts";

/** After a rotation the former secret signs along for so long. */
const OVERLAP_MS = 24 * 3_600_000;

export interface SigningSecret {
  /** `whsec_` and base64, as receivers take it. */
  readonly secret: string;
  /** Milliseconds since the epoch after which it signs no more; null for one without an end. */
  readonly expiresMs: number | null;
}

interface Live {
  readonly secret: Uint8Array;
  readonly expiresMs: number | null;
}

/** All that sign for the key at `nowMs`, the newest first: by the operator's order, then by generation. */
async function liveSecrets(sql: SQL, roots: readonly string[], keyId: string, nowMs: number): Promise<Live[]> {
  const [row]: { generation: number; rotated_ms: number }[] = await sql`
    SELECT generation, rotated_ms FROM webhook_secrets WHERE key_id = ${keyId}`;
  const generation = Number(row?.generation ?? 0);
  const formerUntilMs = Number(row?.rotated_ms ?? 0) + OVERLAP_MS;
  const former = generation > 0 && nowMs < formerUntilMs;
  return [
    ...roots.map((root) => ({ secret: keySecret(root, keyId, generation), expiresMs: null })),
    ...(former
      ? roots.map((root) => ({ secret: keySecret(root, keyId, generation - 1), expiresMs: formerUntilMs }))
      : []),
  ];
}

export async function signingKeys(
  sql: SQL,
  roots: readonly string[],
  keyId: string,
  nowMs: number,
): Promise<Uint8Array[]> {
  return (await liveSecrets(sql, roots, keyId, nowMs)).map(({ secret }) => secret);
}

export async function showSecrets(
  sql: SQL,
  roots: readonly string[],
  keyId: string,
  nowMs: number,
): Promise<SigningSecret[]> {
  const live = await liveSecrets(sql, roots, keyId, nowMs);
  return live.map(({ secret, expiresMs }) => ({ secret: secretText(secret), expiresMs }));
}

/** The next generation begins now. What was the former one before signs no more. */
export async function rotateSecret(sql: SQL, keyId: string, nowMs: number): Promise<void> {
  await sql`
    INSERT INTO webhook_secrets (key_id, generation, rotated_ms) VALUES (${keyId}, 1, ${nowMs})
    ON CONFLICT (key_id) DO UPDATE SET generation = webhook_secrets.generation + 1, rotated_ms = excluded.rotated_ms`;
}
