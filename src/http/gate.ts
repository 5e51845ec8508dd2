// What a request must pass before its route: a key that is good, from an address that has not tried too many, with
// requests left in its minute, and with the scope of the route. dispatch.ts asks for every route that needs a key. All
// of it is decided in memory, but for the moments in which a share of a limit is taken.
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import { isDamagedKey } from "../keys/key-text.ts";
import type { Keys } from "../keys/keys.ts";
import type { Limits, Verdict } from "../keys/limits.ts";
import type { Principal } from "../keys/principal.ts";
import type { Tickets } from "../keys/tickets.ts";
import type { Log } from "../log.ts";
import { clientAddress } from "./client-address.ts";
import { presentedKey, presentedTicket } from "./credentials.ts";
import { createFailedKeys } from "./failed-keys.ts";

export interface GateParts {
  readonly keys: Keys;
  readonly limits: Limits;
  readonly tickets: Tickets;
  /** The peer of the request's socket; null where it has none. */
  readonly peerOf: (request: Request) => string | null;
  readonly trustedProxies: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

export interface Gate {
  /**
   * `byTicket`: a request without a key may show a ticket for its path. Throws `unauthorized`, `ambiguous_credentials`,
   * `link_expired`, `rate_limited` (too many wrong keys from there).
   */
  principalOf(request: Request, byTicket: boolean): Principal;
  /** Counts a request; null where the key has no limit. */
  take(principal: Principal): Verdict | null | Promise<Verdict>;
}

export function createGate({ keys, limits, tickets, peerOf, trustedProxies, clock, log }: GateParts): Gate {
  const failedKeys = createFailedKeys(clock, log);
  const addressOf = (request: Request): string | null =>
    clientAddress(peerOf(request), request.headers.get("x-forwarded-for"), trustedProxies);
  return {
    principalOf(request, byTicket) {
      const ticket = byTicket ? presentedTicket(request) : null;
      if (ticket !== null) {
        const keyId = tickets.holderOf(new URL(request.url).pathname, ticket);
        const holder = keyId === null ? null : keys.holder(keyId);
        if (holder) return holder;
        throw new AppError("link_expired", "This link has expired or is not valid: ask for a new one.");
      }
      const presented = presentedKey(request);
      const principal = keys.authenticate(presented);
      // A stored key cannot be guessed: to hold it back would only punish the neighbours of a guesser. One that a person
      // made up can, so a right guess gets the answer of a wrong one.
      if (principal?.stored) return principal;
      if (principal && !failedKeys.any()) return principal;
      const address = addressOf(request);
      const waitS = address === null ? 0 : failedKeys.waitS(address);
      if (waitS > 0) {
        throw new AppError("rate_limited", "Too many wrong API keys came from this address.", { retryAfterS: waitS });
      }
      if (principal) return principal;
      if (address !== null) failedKeys.failed(address);
      const why = isDamagedKey(presented) ? "This API key was mistyped or cut off." : "This API key is not valid.";
      throw new AppError("unauthorized", why);
    },
    take: limits.take,
  };
}

/** Throws `rate_limited` where the verdict is no. */
export function requireAdmitted({ admitted, limit, resetS }: Verdict): void {
  if (admitted) return;
  throw new AppError("rate_limited", `This key has made its ${limit} requests of this minute.`, {
    retryAfterS: resetS,
  });
}

/** As the IETF draft has them (draft-ietf-httpapi-ratelimit-headers-11): one policy, a quota of requests a minute. */
export const limitHeaders = ({ limit, remaining, resetS }: Verdict): Record<string, string> => ({
  "ratelimit-policy": `"minute";q=${limit};w=60`,
  ratelimit: `"minute";r=${remaining};t=${resetS}`,
});
