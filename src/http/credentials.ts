// The one place where a request's headers become a key: `x-api-key` or `Authorization: Bearer`, the same decision for
// both. Never from the URL, where keys end up in logs, and never from two headers that disagree.
import { AppError } from "../errors.ts";
import { queryOf } from "./query.ts";

/** Throws `unauthorized` without a key, or `ambiguous_credentials` when both headers are sent and differ. */
export function presentedKey(request: Request): string {
  const apiKey = request.headers.get("x-api-key");
  const authorization = request.headers.get("authorization");
  const presented = authorization === null ? apiKey : bearer(authorization);
  if (apiKey !== null && apiKey !== presented) {
    throw new AppError("ambiguous_credentials", "x-api-key and Authorization name different keys: send one of them.");
  }
  if (presented === null || presented === "") {
    throw new AppError("unauthorized", "Send an API key as x-api-key or as Authorization: Bearer.");
  }
  return presented;
}

/** The ticket in the query of a request that shows no key; null without one. */
export function presentedTicket(request: Request): string | null {
  const { headers } = request;
  if (headers.get("x-api-key") !== null || headers.get("authorization") !== null) return null;
  return queryOf(request)?.get("ticket") ?? null;
}

/** The token of a Bearer header, or null for another scheme. The scheme's case does not matter (RFC 9110 §11.1). */
const bearer = (authorization: string): string | null => /^bearer +(\S+) *$/i.exec(authorization)?.[1] ?? null;
