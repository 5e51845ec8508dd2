// The stored keys that are good now, in the memory of one gateway: read whole at the start, and again within a second of
// any change, so that a revoked key is refused by every gateway at once. Where the database does not answer, what is
// known stays good and `isFresh` says so: a load balancer then sends requests to a gateway that can see revocations.
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { KeyEnvironment } from "./key-text.ts";
import type { Principal } from "./principal.ts";
import { keysRevision, liveKeys, type StoredKey } from "./store.ts";
import { saveLastUsed } from "./usage.ts";

export interface LiveKey {
  readonly principal: Principal;
  readonly digest: Uint8Array;
  /** The secret before the last rotation. */
  readonly previous: { readonly digest: Uint8Array; readonly untilMs: number } | null;
  readonly expiresMs: number | null;
  /** The last minute that is known to be written or about to be. */
  usedMinute: number;
}

export interface LiveKeys {
  find(id: string): LiveKey | undefined;
  readonly count: () => number;
  /** Notes the use; written once a minute. */
  used(key: LiveKey, nowMs: number): void;
  /** False when the table could not be read for 5 s. */
  isFresh(): boolean;
  /** Writes what is noted. The databases must still be open. */
  stop(): Promise<void>;
}

export interface LiveKeysOptions {
  /** The database of what is kept. */
  readonly kept: SQL;
  /** The database of what gateways count. */
  readonly usage: SQL;
  /** Keys of the other environment do not exist for this gateway. */
  readonly env: KeyEnvironment;
  readonly log: Log;
  readonly clock: Clock;
  /** Calls `look` again and again until the function that it returns is called; a test has a hand of its own. */
  readonly every?: (look: () => Promise<void>) => () => void;
}

/** Revocations are promised within 5 s; one read of one row costs 0.02 ms on SQLite. */
const POLL_MS = 500;
const STALE_MS = 5_000;
const MINUTE_MS = 60_000;

/** Throws what the database throws: without its keys a gateway does not start. */
export async function openLiveKeys(options: LiveKeysOptions): Promise<LiveKeys> {
  const { kept, usage, env, log, clock, every = regularly } = options;
  let keys = new Map<string, LiveKey>();
  let revision = -1;
  let readMs = clock.monotonicMs();
  let savedMinute = minuteOf(clock.now());
  let noted = new Map<string, number>();
  let failed = false;

  const read = async (): Promise<void> => {
    const found = await keysRevision(kept);
    if (found !== revision) {
      // The number first: a change between the two reads is read again the next time.
      const stored = await liveKeys(kept, env);
      keys = new Map(stored.map((key) => [key.id, liveKeyOf(key)]));
      revision = found;
    }
    readMs = clock.monotonicMs();
  };
  const save = async (): Promise<void> => {
    const batch = noted;
    noted = new Map();
    if (batch.size === 0) return;
    await saveLastUsed(usage, batch).catch((error) => {
      log.warn({ error: messageOf(error) }, "the last use of keys was not written");
    });
  };
  const look = async (): Promise<void> => {
    try {
      await read();
      failed = false;
    } catch (error) {
      if (!failed) log.error({ error: messageOf(error) }, "the keys cannot be read: what is known stays good");
      failed = true;
    }
    const minute = minuteOf(clock.now());
    if (minute === savedMinute) return;
    savedMinute = minute;
    await save();
  };

  await read();
  let looking: Promise<void> | null = null;
  const stopLooking = every(() => {
    looking ??= look().finally(() => {
      looking = null;
    });
    return looking;
  });
  return {
    find: (id) => keys.get(id),
    count: () => keys.size,
    used(key, nowMs) {
      const minute = minuteOf(nowMs);
      if (key.usedMinute === minute) return;
      key.usedMinute = minute;
      noted.set(key.principal.keyId, minute * MINUTE_MS);
    },
    isFresh: () => clock.monotonicMs() - readMs < STALE_MS,
    async stop() {
      stopLooking();
      await looking;
      await save();
    },
  };
}

function regularly(look: () => Promise<void>): () => void {
  const timer = setInterval(look, POLL_MS);
  return () => clearInterval(timer);
}

const minuteOf = (ms: number): number => Math.floor(ms / MINUTE_MS);

const liveKeyOf = (key: StoredKey): LiveKey => ({
  principal: {
    keyId: key.id,
    scopes: new Set(key.scopes),
    ratePerMinute: key.ratePerMinute,
    tokensPerDay: key.tokensPerDay,
    stored: true,
  },
  digest: Buffer.from(key.digest, "hex"),
  previous:
    key.previousDigest !== null && key.previousUntilMs !== null
      ? { digest: Buffer.from(key.previousDigest, "hex"), untilMs: key.previousUntilMs }
      : null,
  expiresMs: key.expiresMs,
  usedMinute: -1,
});
