// Counts wrong keys by address, so that nobody tries many: a bucket of 60, refilled by one a second. Failures alone are
// counted, because one address may stand for a whole office, and what a good key may do is limited by the key. Each
// gateway counts for itself; memory is bounded, and who has most addresses is forgotten first.
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import { subscriberOf } from "../net/addresses.ts";

export interface FailedKeys {
  /** Seconds until the address may try again; 0: at once. */
  waitS(address: string): number;
  /** Notes a failure. */
  failed(address: string): void;
  /** False when no address has failed lately, so that nobody needs to be asked for. */
  readonly any: () => boolean;
}

interface Bucket {
  tokens: number;
  atMs: number;
  logged: boolean;
}

const TOKENS_MAX = 60;
const REFILL_PER_S = 1;
/** After so long without a failure every bucket is full. */
const FORGOTTEN_MS = (TOKENS_MAX / REFILL_PER_S) * 1_000;
/** Addresses in memory, 0.2 KB each. */
const ADDRESSES_MAX = 10_000;

export function createFailedKeys(clock: Clock, log: Log): FailedKeys {
  const buckets = new Map<string, Bucket>();
  let lastMs = Number.NEGATIVE_INFINITY;
  const any = (): boolean => clock.monotonicMs() - lastMs < FORGOTTEN_MS;
  const current = (name: string): Bucket | null => {
    const bucket = buckets.get(name);
    if (!bucket) return null;
    const nowMs = clock.monotonicMs();
    bucket.tokens = Math.min(TOKENS_MAX, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * REFILL_PER_S);
    bucket.atMs = nowMs;
    if (bucket.tokens < TOKENS_MAX) return bucket;
    buckets.delete(name);
    return null;
  };
  return {
    any,
    waitS(address) {
      const bucket = current(subscriberOf(address));
      return bucket === null || bucket.tokens >= 1 ? 0 : Math.ceil((1 - bucket.tokens) / REFILL_PER_S);
    },
    failed(address) {
      if (!any()) buckets.clear();
      lastMs = clock.monotonicMs();
      const name = subscriberOf(address);
      const bucket = current(name) ?? { tokens: TOKENS_MAX, atMs: clock.monotonicMs(), logged: false };
      bucket.tokens -= 1;
      if (bucket.tokens < 1 && !bucket.logged) {
        log.warn({ address: name }, "many wrong API keys from one address");
        bucket.logged = true;
      }
      buckets.delete(name); // back in at the end: the first of the map is the one that failed longest ago
      buckets.set(name, bucket);
      const [oldest] = buckets.keys();
      if (buckets.size > ADDRESSES_MAX && oldest !== undefined) buckets.delete(oldest);
    },
  };
}
