// Who may call: the API keys of the configuration, compared without telling an attacker how close a guess was. The
// HTTP layer asks once a request. A secret never leaves this file; the names of keys may be logged.
import { timingSafeEqual } from "node:crypto";
import type { ApiKey } from "../config.ts";

export interface Keys {
  /** The owner of the key, or null for a key that nobody has. */
  authenticate(presented: string): { readonly keyId: string } | null;
}

/** Longer than any key that the configuration takes (256), so that a huge header is not hashed. */
const presentedCharsMax = 512;

/**
 * Keys held as SHA-256 digests. Every known key is compared on every call, each in constant time: the duration tells
 * how many keys there are, not which of them nearly matched.
 */
export function createKeys(apiKeys: readonly ApiKey[]): Keys {
  const known = apiKeys.map((key) => ({ owner: { keyId: key.id }, digest: digest(key.secret) }));
  return {
    authenticate(presented) {
      if (presented.length > presentedCharsMax) return null;
      const candidate = digest(presented);
      let owner: { readonly keyId: string } | null = null;
      for (const key of known) if (timingSafeEqual(key.digest, candidate)) owner ??= key.owner;
      return owner;
    },
  };
}

const digest = (secret: string): Uint8Array => Bun.CryptoHasher.hash("sha256", secret);
