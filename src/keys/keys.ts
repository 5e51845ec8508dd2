// Who may call: the keys of API_KEYS and the stored ones, compared without telling an attacker how close a guess was.
// Every request asks once, so it touches memory only: stored keys are found by their public id in what live-keys.ts
// holds. A secret never leaves this folder; ids and names of keys may be logged.
import { timingSafeEqual } from "node:crypto";
import { type Clock, systemClock } from "../clock.ts";
import type { ApiKey } from "../settings.ts";
import { digestOf, keyIdIn } from "./key-text.ts";
import type { LiveKeys } from "./live-keys.ts";
import { type Principal, type Scope, scopes } from "./principal.ts";

export interface Keys {
  /** The holder of the key, or null for one that nobody has, that has expired or was revoked. */
  authenticate(presented: string): Principal | null;
  /** The holder of the key with this id, as long as the key is good. */
  holder(keyId: string): Principal | null;
}

/** Longer than any key that the configuration takes (256), so that a huge header is not hashed. */
const presentedCharsMax = 512;

const allScopes: ReadonlySet<Scope> = new Set(scopes);

/**
 * Keys held as SHA-256 digests. Every key of the configuration is compared on every call, each in constant time: the
 * duration tells how many there are, not which of them nearly matched. That a stored key's id exists may show: the id
 * is no secret.
 */
export function createKeys(
  apiKeys: readonly ApiKey[],
  live: Pick<LiveKeys, "find" | "used"> | null = null,
  clock: Clock = systemClock,
): Keys {
  const configured = apiKeys.map(({ id, secret }) => ({
    principal: { keyId: id, scopes: allScopes, ratePerMinute: null, tokensPerDay: null, stored: false },
    digest: digestOf(secret),
  }));
  return {
    authenticate(presented) {
      if (presented.length > presentedCharsMax) return null;
      const candidate = digestOf(presented);
      const id = live && keyIdIn(presented);
      const key = id ? live.find(id) : undefined;
      if (live && key) {
        const now = clock.now();
        const matches = timingSafeEqual(key.digest, candidate);
        const previous = key.previous !== null && timingSafeEqual(key.previous.digest, candidate);
        if (matches || (previous && key.previous.untilMs > now)) {
          if (key.expiresMs !== null && key.expiresMs <= now) return null;
          live.used(key, now);
          return key.principal;
        }
      }
      let holder: Principal | null = null;
      for (const one of configured) if (timingSafeEqual(one.digest, candidate)) holder ??= one.principal;
      return holder;
    },
    holder(keyId) {
      const key = live?.find(keyId);
      if (key) return key.expiresMs === null || key.expiresMs > clock.now() ? key.principal : null;
      return configured.find(({ principal }) => principal.keyId === keyId)?.principal ?? null;
    },
  };
}
