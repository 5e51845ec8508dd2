// Signatures of webhooks as Standard Webhooks 1.0 has them (https://www.standardwebhooks.com), and the secrets behind
// them: derived for each API key from WEBHOOK_SECRET, so that none is stored. Nothing here may be logged.
import { createHmac, hkdfSync } from "node:crypto";

/** One key's secret: 32 bytes, from the operator's secret, the key's id and how often that key has rotated. */
export function keySecret(root: string, keyId: string, generation: number): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", root, "", `millrace webhook\0${keyId}\0${generation}`, 32));
}

/** As receivers and their libraries take it. */
export const secretText = (secret: Uint8Array): string => `whsec_${Buffer.from(secret).toString("base64")}`;

/**
 * The headers that sign `body`: one signature a secret, so that a receiver that knows any of them verifies it. `id`
 * holds no dot and is the same on every attempt; the time is the attempt's.
 */
export function signedHeaders(
  secrets: readonly Uint8Array[],
  id: string,
  nowMs: number,
  body: string,
): Record<string, string> {
  const timestamp = String(Math.floor(nowMs / 1_000));
  const signatures = secrets.map(
    (secret) => `v1,${createHmac("sha256", secret).update(`${id}.${timestamp}.${body}`).digest("base64")}`,
  );
  return {
    "content-type": "application/json",
    "user-agent": "millrace",
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": signatures.join(" "),
  };
}
