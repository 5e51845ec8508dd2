// What one gateway knows and holds of a key's day, and how that changes: pure, but for the share itself, which is changed
// in place. quotas.ts asks the database and calls this.
//
//   take from the database → left → reserve → held → settle → left (what was not used) → given back to the database
import type { Day, DayChange, Wish } from "./leases.ts";

export interface Share {
  readonly keyId: string;
  /** Tokens in a UTC day. */
  limit: number;
  /** Where the day begins, milliseconds since the epoch; minus infinity before the first look. */
  dayMs: number;
  /** Tokens that all gateways have taken, as of the last look. */
  taken: number;
  /** When that was, on the monotonic clock. */
  lookedMs: number;
  /** Of ours, neither reserved nor used; below zero what calls used beyond their reservations. */
  left: number;
  /** Reserved by calls under way. */
  held: number;
  /** Calls under way. */
  calls: number;
  /** Taken while the database was away: it has to be told. */
  owed: number;
  /** By calls that have ended since the database was told last. */
  used: number;
  /** When the last call began, on the monotonic clock. */
  usedMs: number;
  /** What those need who wait for the next look. */
  wanted: number;
}

/** A share is a sixtieth of the day's limit: what is lost with a gateway, or lies unspent at another, is small. */
const SHARES_PER_DAY = 60;
/** A refusal is good so long; then the database is asked whether another gateway has given something back. */
const REFUSAL_MS = 1_000;
/** A share that nobody uses is given back after this time. */
const IDLE_MS = 60_000;

export const newShare = (keyId: string): Share => ({
  keyId,
  limit: 0,
  dayMs: Number.NEGATIVE_INFINITY,
  taken: 0,
  lookedMs: Number.NEGATIVE_INFINITY,
  left: 0,
  held: 0,
  calls: 0,
  owed: 0,
  used: 0,
  usedMs: Number.NEGATIVE_INFINITY,
  wanted: 0,
});

const sizeOf = ({ limit }: Share): number => Math.ceil(limit / SHARES_PER_DAY);

/**
 * Of the tokens asked for, how many a call may reserve: all, or the rest of the day; 0: it is refused; null: the
 * database has to be asked. `dayMs` is today's.
 */
export function reservable(share: Share, tokens: number, dayMs: number, monotonicMs: number): number | null {
  if (share.dayMs < dayMs) return null;
  if (share.left >= tokens) return tokens;
  const exhausted = share.taken >= share.limit && monotonicMs - share.lookedMs < REFUSAL_MS;
  return exhausted ? Math.max(0, share.left) : null;
}

/** Moves `tokens` from what is left to what is held. Returns what puts them back, less what was used. */
export function reserve(share: Share, tokens: number): (used: number) => void {
  const { dayMs } = share;
  share.left -= tokens;
  share.held += tokens;
  share.calls++;
  return (used) => {
    share.held -= tokens;
    share.calls--;
    if (share.dayMs !== dayMs) return; // a day that is over needs nothing back
    share.left += tokens - used;
    share.used += used;
  };
}

/** What to ask the database for. */
export const wishOf = (share: Share, dayMs: number): Wish => ({
  keyId: share.keyId,
  limit: share.limit,
  tokens: Math.max(share.wanted - share.left, sizeOf(share)),
  dayMs,
});

/** Takes in what the database said. */
export function receive(share: Share, day: Day, monotonicMs: number): void {
  if (share.dayMs !== day.dayMs) {
    share.left = 0;
    share.owed = 0;
    share.used = 0;
    share.dayMs = day.dayMs;
  }
  share.left += day.granted;
  share.taken = day.leased;
  share.lookedMs = monotonicMs;
}

/** Grants the wish as if there were no other gateway, to be told to the database later. */
export function receiveAlone(share: Share, wish: Wish, monotonicMs: number): void {
  const taken = share.dayMs >= wish.dayMs ? share.taken : 0;
  const granted = Math.min(wish.tokens, Math.max(0, wish.limit - taken));
  receive(share, { dayMs: Math.max(share.dayMs, wish.dayMs), leased: taken + granted, granted }, monotonicMs);
  share.owed += granted;
}

export const isIdle = (share: Share, monotonicMs: number): boolean =>
  share.calls === 0 && share.wanted === 0 && monotonicMs - share.usedMs >= IDLE_MS;

/** What the database has to be told: what was used, overdrafts, and what is not needed here. Null: nothing. */
export function changeOf(share: Share, monotonicMs: number): DayChange | null {
  const keep = isIdle(share, monotonicMs) ? 0 : sizeOf(share);
  const back = share.left > keep ? share.left - keep : Math.min(0, share.left);
  const tokens = share.owed - back;
  const { used } = share;
  if (tokens === 0 && used === 0) return null;
  share.left -= back;
  share.owed = 0;
  share.used = 0;
  share.taken += tokens;
  return { keyId: share.keyId, dayMs: share.dayMs, tokens, used };
}
