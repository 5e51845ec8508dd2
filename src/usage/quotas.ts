// How many tokens a key may use in a UTC day, counted by all gateways together. Each takes a sixtieth of the limit at a
// time out of the shared database and reserves from it in memory: before a call its estimate, of which what was not used
// comes back after it. The ledger of a gateway asks once a call; a call that was admitted is never cut.
//
// A call is admitted while a token of the day is left, and reserves its estimate or the rest, whichever is less. So the
// use of a day exceeds the limit by what calls use beyond what they reserved: on each gateway one call beyond the rest
// of the day, and calls whose prompt was longer than estimated, that set no max_tokens, or that reserved
// RESERVE_TOKENS_MAX. A key may be refused by one gateway while each of the others holds a sixtieth of its limit, which
// it does for a minute after the key's last call there. What a gateway that is killed had taken and not used is free again
// a minute later (holders.ts).
import type { Clock } from "../clock.ts";
import { within } from "../db/deadline.ts";
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Day, DayChange, Wish } from "./leases.ts";
import type { Reservation, TokenQuota } from "./ledger.ts";
import { changeOf, isIdle, newShare, receive, receiveAlone, reservable, reserve, type Share, wishOf } from "./share.ts";
import { DAY_MS } from "./store.ts";

export interface Quotas {
  /** Throws `insufficient_quota`, `rate_limited`. Without the database this gateway counts alone. */
  reserve(keyId: string, limit: number, tokens: number): Reservation | Promise<Reservation>;
  /** What the database has to be told since the last time. */
  changes(): DayChange[];
}

export interface QuotasOptions {
  /** As takeTokens in leases.ts. */
  readonly take: (wishes: readonly Wish[]) => Promise<ReadonlyMap<string, Day>>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Clients set max_tokens to the size of a context and use little of it. */
const RESERVE_TOKENS_MAX = 16_384;
/** A call waits so long for the database, and is then counted by this gateway alone. */
const TAKE_MS_MAX = 1_000;
/** Of a key that asks for more at once than a look brings. */
const ROUNDS_MAX = 5;

export const dayOf = (epochMs: number): number => epochMs - (epochMs % DAY_MS);

export function createQuotas({ take, clock, log }: QuotasOptions): Quotas {
  const shares = new Map<string, Share>();
  const hungry = new Set<Share>();
  let looking: Promise<void> | null = null;
  let failed = false;

  const shareOf = (keyId: string, limit: number): Share => {
    const share = shares.get(keyId) ?? newShare(keyId);
    shares.set(keyId, share);
    share.limit = limit;
    share.usedMs = clock.monotonicMs();
    return share;
  };
  /** Takes shares for all keys that wait, in one statement. */
  const look = async (): Promise<void> => {
    await null; // whoever asks in this turn comes along
    const dayMs = dayOf(clock.now());
    const asking = [...hungry].filter(({ wanted }) => wanted > 0); // others were served by the look before
    hungry.clear();
    if (asking.length === 0) return;
    const wishes = asking.map((share) => wishOf(share, dayMs));
    let days: ReadonlyMap<string, Day> = new Map();
    try {
      days = await within(TAKE_MS_MAX, take(wishes));
      failed = false;
    } catch (error) {
      if (!failed) log.error({ error: messageOf(error) }, "token quotas are not shared: this gateway counts alone");
      failed = true;
    }
    asking.forEach((share, index) => {
      const day = days.get(share.keyId);
      if (day) receive(share, day, clock.monotonicMs());
      else receiveAlone(share, wishes[index] as Wish, clock.monotonicMs());
    });
  };
  /** The reservation where it can be decided here; null where the database has to be asked. Throws the refusal. */
  const decide = (share: Share, tokens: number): Reservation | null => {
    const nowMs = clock.now();
    const found = reservable(share, tokens, dayOf(nowMs), clock.monotonicMs());
    if (found === 0) throw refusalOf(share, nowMs);
    return found === null ? null : { settle: reserve(share, found), quota: quotaOf(share, nowMs) };
  };
  const wait = async (share: Share, tokens: number): Promise<Reservation> => {
    share.wanted += tokens;
    try {
      for (let round = 0; round < ROUNDS_MAX; round++) {
        hungry.add(share);
        looking ??= look().finally(() => {
          looking = null;
        });
        await looking;
        const reservation = decide(share, tokens);
        if (reservation) return reservation;
      }
    } finally {
      share.wanted -= tokens;
    }
    throw new AppError("rate_limited", "This key asks for more tokens at once than can be counted.", RETRY_SOON);
  };

  return {
    reserve(keyId, limit, tokens) {
      const share = shareOf(keyId, limit);
      const wanted = Math.min(RESERVE_TOKENS_MAX, Math.max(1, Math.ceil(tokens)));
      return decide(share, wanted) ?? wait(share, wanted);
    },
    changes() {
      const nowMs = clock.monotonicMs();
      const found: DayChange[] = [];
      for (const share of shares.values()) {
        const change = changeOf(share, nowMs);
        if (change) found.push(change);
        if (isIdle(share, nowMs)) shares.delete(share.keyId);
      }
      return found;
    },
  };
}

const RETRY_SOON = { retryAfterS: 1 };

const quotaOf = ({ limit, taken, left }: Share, nowMs: number): TokenQuota => ({
  limit,
  remaining: Math.max(0, limit - taken) + Math.max(0, left),
  resetS: resetS(nowMs),
});

const resetS = (nowMs: number): number => Math.ceil((dayOf(nowMs) + DAY_MS - nowMs) / 1_000);

/** Calls under way may give something back; a day that is used up does not. */
function refusalOf({ limit, held }: Share, nowMs: number): AppError {
  if (held > 0) {
    const why = `Calls under way hold the rest of this key's ${limit} tokens of the day.`;
    return new AppError("rate_limited", why, RETRY_SOON);
  }
  return usedUp(limit, nowMs);
}

export function usedUp(limit: number, nowMs: number): AppError {
  const why = `This key has used its ${limit} tokens of this day; the next one begins at midnight UTC.`;
  return new AppError("insufficient_quota", why, { retryAfterS: resetS(nowMs) });
}
