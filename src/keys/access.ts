// Who may call a gateway, put together: the keys of the configuration and the stored ones, and
// their limits. The gateway's composition root
// opens it once, and stops it before it closes the database of what is kept.
import type { SQL } from "bun";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { openUsage } from "../db/db.ts";
import type { Log } from "../log.ts";
import { createKeys, type Keys } from "./keys.ts";
import { createLimits, type Limits } from "./limits.ts";
import { openLiveKeys } from "./live-keys.ts";
import { createTickets, type Tickets, ticketSecret } from "./tickets.ts";

export interface Access {
  readonly keys: Keys;
  readonly tickets: Tickets;
  readonly limits: Limits;
  /** The database of what gateways count; closed by stop(). */
  readonly usage: SQL;
  /** False when stored keys could not be read for 5 s: revocations may be missing here. */
  isFresh(): boolean;
  stop(): Promise<void>;
}

export async function openAccess(
  config: Pick<Config, "env" | "dataDir" | "databaseUrl" | "apiKeys" | "rateLimitPerMinute">,
  kept: SQL,
  log: Log,
): Promise<Access> {
  const usage = await openUsage(config);
  const liveKeys = await openLiveKeys({ kept, usage: usage.sql, env: config.env, clock: systemClock, log });
  if (config.apiKeys.length + liveKeys.count() === 0) {
    log.warn({}, "there is no API key yet: make one with `bun millrace keys create`");
  }
  return {
    keys: createKeys(config.apiKeys, liveKeys, systemClock),
    tickets: createTickets(await ticketSecret(kept), systemClock),
    limits: createLimits({ usage: usage.sql, perMinute: config.rateLimitPerMinute, clock: systemClock, log }),
    usage: usage.sql,
    isFresh: liveKeys.isFresh,
    async stop() {
      await liveKeys.stop();
      await usage.close();
    },
  };
}
