// Tickets: addresses that carry their own permission, for those who cannot send a key (EventSource, a download in a
// browser, somebody who is to fetch one result). One is good for reading one path until a time, as the key that asked
// for it, and for no longer than that key. Nothing is stored for it; every gateway knows the secret that seals them.
import { timingSafeEqual } from "node:crypto";
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";

export interface Tickets {
  /** The value of `?ticket=` for `path`. `expiresMs`: milliseconds since the epoch. */
  issue(path: string, keyId: string, expiresMs: number): string;
  /** Id of the key whose ticket for `path` this is; null where it is another path's, too old, or nobody's. */
  holderOf(path: string, ticket: string): string | null;
}

/** 132 bits: nobody can try enough of them. */
const SEAL_CHARS = 22;
const TICKET = /^([0-9a-z]{1,11})\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{22})$/;

/**
 * Sealed with SHA-512/256 over the secret (32 bytes in hexadecimal, so of one length) and what the ticket says: its
 * state is cut, so nothing can be appended to what was sealed, and it takes a third of the time of an HMAC, which each
 * accepted task would pay.
 */
export function createTickets(secret: Uint8Array, clock: Clock): Tickets {
  const prefix = Buffer.from(secret).toString("hex");
  const sealOf = (path: string, keyId: string, expires: string): string =>
    Bun.CryptoHasher.hash("sha512-256", `${prefix}${path}\n${keyId}\n${expires}`, "base64url").slice(0, SEAL_CHARS);
  return {
    issue(path, keyId, expiresMs) {
      const expires = Math.ceil(expiresMs / 1_000).toString(36);
      return `${expires}.${keyId}.${sealOf(path, keyId, expires)}`;
    },
    holderOf(path, ticket) {
      const [, expires = "", keyId = "", seal = ""] = TICKET.exec(ticket) ?? [];
      if (keyId === "") return null;
      const sealed = timingSafeEqual(Buffer.from(seal), Buffer.from(sealOf(path, keyId, expires)));
      return sealed && Number.parseInt(expires, 36) * 1_000 > clock.now() ? keyId : null;
    },
  };
}

const NAME = "ticket-secret";

/** The secret of this installation, drawn by the first gateway that asks. Deleting the row ends all tickets. */
export async function ticketSecret(kept: SQL): Promise<Uint8Array> {
  const drawn = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
  await kept`INSERT INTO settings (name, value) VALUES (${NAME}, ${drawn}) ON CONFLICT (name) DO NOTHING`;
  const [row]: { value: string }[] = await kept`SELECT value FROM settings WHERE name = ${NAME}`;
  return Buffer.from(row?.value ?? drawn, "hex");
}
