// Parts of a result: the `Range` header of RFC 9110 §14, one range at a time. Pure; result.ts asks.
import type { ByteRange } from "../blobs/blobs.ts";

/** The whole, a part, or `unsatisfiable` (416). */
export type RangeChoice =
  | { readonly kind: "whole" | "unsatisfiable" }
  | { readonly kind: "part"; readonly range: ByteRange };

const whole: RangeChoice = { kind: "whole" };

/**
 * What to send of `sizeBytes` bytes. Another unit, several ranges or a malformed header mean the whole, as the RFC
 * allows (§14.2); a range that begins after the end is unsatisfiable. `ifRange` must equal the strong `etag`.
 */
export function chooseRange(
  header: string | null,
  ifRange: string | null,
  etag: string,
  sizeBytes: number,
): RangeChoice {
  if (header === null || (ifRange !== null && ifRange !== etag)) return whole;
  const match = /^bytes=\s*(\d{0,15})-(\d{0,15})\s*$/.exec(header);
  if (!match) return whole;
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return whole;
  if (first === "") {
    const start = Math.max(0, sizeBytes - Number(last));
    return start < sizeBytes ? { kind: "part", range: { start, end: sizeBytes - 1 } } : { kind: "unsatisfiable" };
  }
  const start = Number(first);
  if (last !== "" && Number(last) < start) return whole;
  if (start >= sizeBytes) return { kind: "unsatisfiable" };
  return { kind: "part", range: { start, end: last === "" ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1) } };
}
