// The one place where a request gets its principal: `x-api-key` or `Authorization: Bearer`, the same decision for both.
// Never from the URL, where keys end up in logs, and never from two headers that disagree.
import { AppError } from "../errors.ts";
import { isDamagedKey } from "../keys/key-text.ts";
import type { Keys } from "../keys/keys.ts";
import type { Principal } from "../keys/principal.ts";

/** Throws `unauthorized`, or `ambiguous_credentials` when both headers are sent and differ. */
export function principalOf(request: Request, keys: Keys): Principal {
  const apiKey = request.headers.get("x-api-key");
  const authorization = request.headers.get("authorization");
  const presented = authorization === null ? apiKey : bearer(authorization);
  if (apiKey !== null && apiKey !== presented) {
    throw new AppError("ambiguous_credentials", "x-api-key and Authorization name different keys: send one of them.");
  }
  if (presented === null || presented === "") {
    throw new AppError("unauthorized", "Send an API key as x-api-key or as Authorization: Bearer.");
  }
  const principal = keys.authenticate(presented);
  if (principal) return principal;
  const why = isDamagedKey(presented) ? "This API key was mistyped or cut off." : "This API key is not valid.";
  throw new AppError("unauthorized", why);
}

/** The token of a Bearer header, or null for another scheme. The scheme's case does not matter (RFC 9110 §11.1). */
const bearer = (authorization: string): string | null => /^bearer +(\S+) *$/i.exec(authorization)?.[1] ?? null;
