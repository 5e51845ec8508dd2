// How many requests a key may make in a minute, counted by all gateways together. Each takes a sixtieth of the limit at
// a time out of the shared database, about once a second for a busy key, and spends it in memory: a request asks SQL
// only when the share is spent. The HTTP layer asks once a request.
//
// A window of one minute begins with the first request. In one window never more than the limit is let through, by any
// number of gateways. A key is refused by one while others hold units that they took and have not spent: at most
// ceil(limit / 60) - 1 each, which is none up to 60 a minute. Two full windows may meet, so that in the moments around
// their border twice the limit can pass.
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";
import { within } from "../db/deadline.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Principal } from "./principal.ts";
import { takeShares, WINDOW_MS, type Window } from "./usage.ts";

/** The answer for one request. */
export interface Verdict {
  readonly admitted: boolean;
  /** Requests in a minute. */
  readonly limit: number;
  /** What is left in this window, as far as this gateway knows. */
  readonly remaining: number;
  /** Seconds until the window ends, 1 to 60. */
  readonly resetS: number;
}

export interface Limits {
  /** Null for a key without a limit. Never throws: without the database this gateway counts alone. */
  take(principal: Principal): Verdict | null | Promise<Verdict>;
}

export interface LimitsOptions {
  /** The database of what gateways count. */
  readonly usage: SQL;
  /** For keys that have no limit of their own; 0: none. */
  readonly perMinute: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** A share is what a busy key uses in a second. */
const SHARES_PER_WINDOW = 60;
/** A request waits so long for the database, and is then counted by this gateway alone. */
const TAKE_MS_MAX = 1_000;
/** Of a key that asks for more than its window holds at once: each round serves whoever waited when it began. */
const ROUNDS_MAX = 5;
/** Keys in memory. Beyond it those whose window has ended are dropped; live keys are fewer (KEYS_MAX). */
const KEYS_HELD_MAX = 20_000;

/** What this gateway knows of a key's window. */
interface Share {
  readonly keyId: string;
  limit: number;
  startedMs: number;
  /** Units that all gateways have taken, as of the last look. */
  taken: number;
  /** Units of ours that are not spent. */
  left: number;
  /** Requests that wait for the next look. */
  waiting: number;
}

export function createLimits({ usage, perMinute, clock, log }: LimitsOptions): Limits {
  const shares = new Map<string, Share>();
  const hungry = new Set<Share>();
  let looking: Promise<void> | null = null;
  let failed = false;

  const shareOf = (keyId: string, limit: number): Share => {
    const known = shares.get(keyId);
    if (known) {
      known.limit = limit;
      return known;
    }
    if (shares.size >= KEYS_HELD_MAX) dropEnded(shares, clock.now());
    const share = { keyId, limit, startedMs: Number.NEGATIVE_INFINITY, taken: 0, left: 0, waiting: 0 };
    shares.set(keyId, share);
    return share;
  };

  /** Takes shares for all keys that wait, in one statement. */
  const look = async (): Promise<void> => {
    await null; // whoever asks in this turn comes along
    const nowMs = clock.now();
    const asking = [...hungry].filter(({ waiting }) => waiting > 0); // others were served by the look before
    hungry.clear();
    const wishes = asking.map((share) => ({ share, keyId: share.keyId, units: unitsFor(share), nowMs }));
    try {
      const windows = await within(TAKE_MS_MAX, takeShares(usage, wishes));
      for (const { share, units } of wishes)
        receive(share, units, windows.get(share.keyId) ?? alone(share, units, nowMs));
      failed = false;
    } catch (error) {
      if (!failed) log.error({ error: messageOf(error) }, "rate limits are not shared: this gateway counts alone");
      failed = true;
      for (const { share, units } of wishes) receive(share, units, alone(share, units, nowMs));
    }
  };
  const wait = async (share: Share): Promise<Verdict> => {
    share.waiting++;
    try {
      for (let round = 0; round < ROUNDS_MAX; round++) {
        hungry.add(share);
        looking ??= look().finally(() => {
          looking = null;
        });
        await looking;
        const verdict = decide(share, clock.now());
        if (verdict) return verdict;
      }
      return { admitted: false, limit: share.limit, remaining: 0, resetS: 1 };
    } finally {
      share.waiting--;
    }
  };

  return {
    take(principal) {
      const limit = principal.ratePerMinute ?? perMinute;
      if (limit === 0) return null;
      const share = shareOf(principal.keyId, limit);
      return decide(share, clock.now()) ?? wait(share);
    },
  };
}

/** The answer from what is known here; null where the database has to be asked. */
function decide(share: Share, nowMs: number): Verdict | null {
  const leftMs = share.startedMs + WINDOW_MS - nowMs;
  if (leftMs <= 0) return null;
  const admitted = share.left > 0;
  if (!admitted && share.taken < share.limit) return null;
  if (admitted) share.left--;
  const remaining = Math.max(0, share.limit - share.taken) + share.left;
  // A window may begin a little in the future: another gateway's clock is ahead.
  const resetS = Math.min(WINDOW_MS / 1_000, Math.ceil(leftMs / 1_000));
  return { admitted, limit: share.limit, remaining, resetS };
}

const unitsFor = ({ limit, waiting }: Share): number =>
  Math.min(limit, Math.max(waiting, Math.ceil(limit / SHARES_PER_WINDOW)));

/** `window` is the key's after `units` were taken: those that still fitted are ours. */
function receive(share: Share, units: number, window: Window): void {
  const fitted = Math.min(units, Math.max(0, share.limit - (window.taken - units)));
  share.left = (share.startedMs === window.startedMs ? share.left : 0) + fitted;
  share.startedMs = window.startedMs;
  share.taken = window.taken;
}

/** The window as it would be if there were no other gateway. */
const alone = (share: Share, units: number, nowMs: number): Window =>
  nowMs < share.startedMs + WINDOW_MS
    ? { startedMs: share.startedMs, taken: share.taken + units }
    : { startedMs: nowMs, taken: units };

function dropEnded(shares: Map<string, Share>, nowMs: number): void {
  for (const [keyId, { startedMs, waiting }] of shares) {
    if (waiting === 0 && startedMs + WINDOW_MS <= nowMs) shares.delete(keyId);
  }
}
