// How long a client would like its request to be held: `Prefer: wait=N` (RFC 7240) or, on GET, `?wait=N`. The header
// is a wish, so what cannot be understood is ignored; the query is a parameter, so it is refused.
import { invalidQuery } from "./query.ts";

/** Longer waits meet proxies that cut silent connections. */
export const waitSMax = 60;

/**
 * Seconds of the first `wait` preference, at most `waitSMax`; null when there is none that can be understood.
 * `respond-async, wait=10` means the same as `wait=10`: 202 once the time is over (RFC 7240 §4.3).
 */
export function preferredWaitS(header: string | null): number | null {
  if (header === null) return null;
  for (const preference of header.match(/(?:"(?:\\.|[^"\\])*"|[^,"])+/g) ?? []) {
    const [name, value] = (preference.split(";")[0] ?? "").split("=", 2);
    if (name?.trim().toLowerCase() !== "wait") continue;
    const digits = /^\s*(?:(\d{1,9})|"(\d{1,9})")\s*$/.exec(value ?? "");
    // "If any preference is specified more than once, only the first instance is to be considered" (RFC 7240 §2).
    return digits ? Math.min(Number(digits[1] ?? digits[2]), waitSMax) : null;
  }
  return null;
}

/** Seconds of `?wait=N`, or null without it. Throws `invalid_request`. */
export function queriedWaitS(query: URLSearchParams): number | null {
  const value = query.get("wait");
  if (value === null) return null;
  if (!/^\d{1,2}$/.test(value) || Number(value) > waitSMax) {
    throw invalidQuery([{ path: "/wait", message: `must be a whole number of seconds from 0 to ${waitSMax}` }]);
  }
  return Number(value);
}
