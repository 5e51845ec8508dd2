// When a delivery is tried again, and when it is over. Pure: time and randomness come in as numbers.

/** What came of one attempt: the receiver's status, or the code of an error before there was one. */
export interface Outcome {
  /** HTTP status; null where nothing was answered. */
  readonly status: number | null;
  /** A code of errors.ts; null where there is a status. */
  readonly error: string | null;
  /** The receiver's Retry-After as it sent it. */
  readonly retryAfter: string | null;
}

export type Verdict =
  | { readonly kind: "delivered" }
  /** Tried no more: the receiver said so, it may not be reached at all, or the schedule is at its end. */
  | { readonly kind: "failed" }
  | { readonly kind: "again"; readonly atMs: number };

/** Waits are up to so much longer than the schedule says, so that what failed together does not come back together. */
const JITTER = 0.2;

/** A receiver can put the next attempt off, and no further than this. */
const RETRY_AFTER_MS_MAX = 14 * 3_600_000;

/**
 * What follows the attempt that made `attempts` of this round. `retryMs` are the waits after the first attempt, the
 * second and so on: one attempt more than there are waits. 2xx is success and nothing else is; 410 (gone) ends it, and
 * so does a URL that leads to no public address. `random` is in [0, 1).
 */
export function judge(
  outcome: Outcome,
  attempts: number,
  retryMs: readonly number[],
  nowMs: number,
  random: number,
): Verdict {
  const { status, error } = outcome;
  if (status !== null && status >= 200 && status < 300) return { kind: "delivered" };
  const waitMs = retryMs[attempts - 1];
  if (status === 410 || error === "fetch_blocked" || waitMs === undefined) return { kind: "failed" };
  const jitteredMs = waitMs * (1 + JITTER * random);
  return { kind: "again", atMs: Math.round(nowMs + Math.max(jitteredMs, retryAfterMs(outcome.retryAfter, nowMs))) };
}

/** Retry-After (RFC 9110 §10.2.3) in milliseconds from now, capped; 0 for none and for what cannot be read. */
function retryAfterMs(header: string | null, nowMs: number): number {
  if (header === null) return 0;
  const text = header.trim();
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1_000 : /GMT$/.test(text) ? Date.parse(text) - nowMs : 0;
  return Number.isNaN(ms) ? 0 : Math.min(RETRY_AFTER_MS_MAX, Math.max(0, ms));
}
