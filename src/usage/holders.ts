// Finds the gateways that are gone and gives back what they had taken of the keys' days. usage.ts starts it, in every
// gateway: each counts its own beats in the database and looks at those of the others. Clocks of several machines differ, so
// none is compared: a gateway is gone when its number has stayed the same through so many looks of another one, and looks
// that failed do not count, lest a database that was away make everybody dead.
import type { SQL } from "bun";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { beat, release } from "./leases.ts";

/** What a killed gateway had taken is back after LOOKS_MAX to LOOKS_MAX + 1 of these. */
const LOOK_MS = 10_000;
export const LOOKS_MAX = 6;

export interface Holders {
  /** Never throws. Called by a timer of its own, and by tests. */
  look(): Promise<void>;
  /** Gives back what this gateway holds. Never throws. */
  stop(): Promise<void>;
}

/** `holder` names this gateway. */
export function openHolders(sql: SQL, holder: string, log: Log): Holders {
  let seen = new Map<string, { readonly beat: number; readonly looks: number }>();
  let looking: Promise<void> | null = null;
  const lookNow = async (): Promise<void> => {
    const now: typeof seen = new Map();
    for (const other of await beat(sql, holder)) {
      const before = seen.get(other.holder);
      const looks = before?.beat === other.beat ? before.looks + 1 : 0;
      if (looks < LOOKS_MAX) now.set(other.holder, { beat: other.beat, looks });
      else if (await release(sql, other.holder, other.beat)) {
        log.info({ gateway: other.holder }, "a gateway is gone: the tokens that it held are given back");
      }
    }
    seen = now;
  };
  const look = (): Promise<void> => {
    looking ??= lookNow()
      .catch((error) => log.debug({ error: messageOf(error) }, "gateways that are gone are looked for later"))
      .finally(() => {
        looking = null;
      });
    return looking;
  };
  void look();
  const timer = setInterval(() => void look(), LOOK_MS);
  return {
    look,
    async stop() {
      clearInterval(timer);
      await looking;
      await release(sql, holder, null).catch((error) => {
        log.warn({ error: messageOf(error) }, "tokens that this gateway held are given back by another one");
      });
    },
  };
}
