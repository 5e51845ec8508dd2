import { afterEach, beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import { forEachDatabase } from "../../tests/databases.ts";
import { type Db, openUsage } from "../db/db.ts";
import { asAppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import { type Holders, LOOKS_MAX, openHolders } from "./holders.ts";
import { release, takeTokens } from "./leases.ts";
import type { Reservation } from "./ledger.ts";
import { createQuotas, type Quotas } from "./quotas.ts";
import { countBatch, DAY_MS } from "./store.ts";

const midnight = Date.UTC(2026, 10, 21);
const time = { now: midnight };
const clock = { now: () => time.now, monotonicMs: () => time.now };

/** A gateway's quotas, and what it does once a second. */
interface Gateway {
  readonly quotas: Quotas;
  readonly holder: string;
  tick(): Promise<void>;
}

forEachDatabase(({ empty, name }) => {
  let dbs: Db[];
  const opened: Holders[] = [];
  beforeEach(async () => {
    time.now = midnight + 1_000;
    const place = await empty();
    dbs = await Promise.all([openUsage(place), openUsage(place), openUsage(place)]);
  });
  afterEach(async () => {
    for (const { stop } of opened.splice(0)) await stop();
    for (const { close } of dbs) await close();
  });
  const gatewayOn = ({ sql }: Db): Gateway => {
    const holder = crypto.randomUUID();
    const quotas = createQuotas({ take: (wishes) => takeTokens(sql, wishes, holder), clock, log: silentLog });
    const tick = (): Promise<void> =>
      countBatch(sql, { id: crypto.randomUUID(), rows: [], days: quotas.changes() }, holder, time.now);
    return { quotas, tick, holder };
  };
  const gateways = (count: number): Gateway[] => dbs.slice(0, count).map(gatewayOn);
  const watched = (count: number): (Gateway & { readonly holders: Holders })[] =>
    dbs.slice(0, count).map((db) => {
      const gateway = gatewayOn(db);
      const holders = openHolders(db.sql, gateway.holder, silentLog);
      opened.push(holders);
      return { ...gateway, holders };
    });
  const leased = async (): Promise<number> => {
    const [row] = await (dbs[0] as Db).sql`SELECT leased FROM token_days WHERE key_id = 'alice'`;
    return Number(row.leased);
  };
  const reserve = async (gateway: Gateway | undefined, limit: number, tokens: number): Promise<Reservation> => {
    if (!gateway) throw new Error("no gateway");
    return gateway.quotas.reserve("alice", limit, tokens);
  };
  /** The code of a refusal, else what is left. */
  const tried = async (gateway: Gateway | undefined, limit: number, tokens: number): Promise<string | number> => {
    try {
      const reservation = await reserve(gateway, limit, tokens);
      reservation.settle(0);
      return reservation.quota?.remaining ?? -1;
    } catch (error) {
      return asAppError(error)?.code ?? "thrown";
    }
  };

  test("what is not used comes back, what is used is gone until midnight UTC", async () => {
    const [gateway] = gateways(1);
    const first = await reserve(gateway, 1_000, 600);
    expect(first.quota).toEqual({ limit: 1_000, remaining: 400, resetS: 86_399 });
    first.settle(100);
    const second = await reserve(gateway, 1_000, 900);
    expect(second.quota?.remaining).toBe(0);
    second.settle(900);
    time.now = midnight + DAY_MS - 5_500;
    const refused = reserve(gateway, 1_000, 1);
    await expect(refused).rejects.toMatchObject({ code: "insufficient_quota", retryAfterS: 6 });
    time.now = midnight + DAY_MS;
    expect(await tried(gateway, 1_000, 1)).toBe(999);
  });

  test("a call reserves the rest where its estimate is more; the next one waits for it and not for midnight", async () => {
    const [gateway] = gateways(1);
    const rest = await reserve(gateway, 1_000, 5_000);
    await expect(reserve(gateway, 1_000, 1)).rejects.toMatchObject({ code: "rate_limited", retryAfterS: 1 });
    rest.settle(300);
    expect(await tried(gateway, 1_000, 5_000)).toBe(0);
    const last = await reserve(gateway, 1_000, 5_000);
    last.settle(1_700); // beyond what was left: charged, and the call was not cut
    await gateway?.tick();
    expect(await leased()).toBe(2_000);
    expect(await tried(gateway, 1_000, 1)).toBe("insufficient_quota");
  });

  test("a call that ends after midnight gives nothing to the new day, and takes nothing of it", async () => {
    const [gateway] = gateways(1);
    const [frugal, costly] = [await reserve(gateway, 1_000, 400), await reserve(gateway, 1_000, 400)];
    time.now = midnight + DAY_MS;
    expect(await tried(gateway, 1_000, 100)).toBe(900);
    frugal.settle(0);
    costly.settle(5_000);
    await gateway?.tick();
    expect(await tried(gateway, 1_000, 100)).toBe(900);
  });

  test("of an answer as long as a context 16,384 tokens are reserved", async () => {
    const [gateway] = gateways(1);
    const reservation = await reserve(gateway, 1_000_000, 131_072);
    expect(reservation.quota?.remaining).toBe(1_000_000 - 16_384);
    reservation.settle(100_000);
    await gateway?.tick();
    expect((await reserve(gateway, 1_000_000, 1)).quota?.remaining).toBe(899_999);
  });

  test("a share is taken once, and spent in memory", async () => {
    const [gateway] = gateways(1);
    (await reserve(gateway, 600_000, 100)).settle(100);
    expect(await leased()).toBe(10_000);
    for (let i = 0; i < 90; i++) {
      const reservation = gateway?.quotas.reserve("alice", 600_000, 100);
      if (!reservation || reservation instanceof Promise) throw new Error("the database was asked");
      reservation.settle(100);
    }
    await gateway?.tick();
    expect(await leased()).toBe(10_000);
  });

  test("two gateways share the day: what one holds unspent is a sixtieth, and given back when it is idle", async () => {
    const [first, second] = gateways(2);
    (await reserve(first, 6_000, 4_000)).settle(1_000);
    await first?.tick();
    expect(await leased()).toBe(1_100); // what was used, and a share
    (await reserve(second, 6_000, 4_900)).settle(4_900);
    expect(await tried(second, 6_000, 1)).toBe("insufficient_quota");
    expect(await tried(first, 6_000, 100)).toBeNumber();
    time.now += 60_000;
    await first?.tick();
    expect(await tried(second, 6_000, 100)).toBe(0);
  });

  test("any number at once: as many as the limit has pass, the others are refused", async () => {
    const both = gateways(2);
    const all = await Promise.allSettled(Array.from({ length: 100 }, (_, i) => reserve(both[i % 2], 1_000, 50)));
    const passed = all.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    expect(passed).toHaveLength(20);
    for (const reservation of passed) reservation.settle(50);
    for (const gateway of both) await gateway.tick();
    expect(await leased()).toBe(1_000);
  });

  test("over gateways: calls within their estimates never use more than the limit, and all of it can be used", async () => {
    let keys = 0;
    const step = fc.record({
      gateway: fc.nat(2),
      tokens: fc.integer({ min: 1, max: 300 }),
      used: fc.double({ min: 0, max: 1, noNaN: true }),
      ends: fc.nat(3),
      ms: fc.nat(3_000),
    });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 3_000 }), fc.array(step, { maxLength: 60 }), async (limit, steps) => {
        const key = `key-${++keys}`;
        const three = gateways(3);
        let total = 0;
        let running: (() => void)[] = [];
        for (const { gateway, tokens, used, ends, ms } of steps) {
          time.now += ms;
          if (time.now > midnight + DAY_MS / 2) time.now = midnight;
          const { quotas, tick } = three[gateway] as Gateway;
          try {
            const reservation = await quotas.reserve(key, limit, tokens);
            const rest = Math.min(tokens, limit - total);
            running.push(() => {
              const spent = Math.floor(Math.min(tokens, rest) * used);
              total += spent;
              reservation.settle(spent);
            });
          } catch (error) {
            expect(["insufficient_quota", "rate_limited"]).toContain(asAppError(error)?.code ?? "thrown");
          }
          for (const end of running.splice(0, ends)) end();
          await tick();
        }
        for (const end of running) end();
        running = [];
        time.now += 60_000;
        for (const { tick } of three) await tick();
        // Nobody holds anything now: what is taken is what was used, and any gateway can use the rest.
        const [row] = await (dbs[0] as Db).sql`SELECT leased FROM token_days WHERE key_id = ${key}`;
        expect(Number(row?.leased ?? 0)).toBe(total);
        if (total < limit) {
          const last = await (three[0] as Gateway).quotas.reserve(key, limit, limit);
          expect(last.quota?.remaining).toBe(Math.max(0, limit - total - Math.min(limit, 16_384)));
          last.settle(0);
        }
      }),
      { numRuns: name === "SQLite" ? 60 : 10 },
    );
  });

  test("without the database each gateway counts alone, and tells it when it is back", async () => {
    const both = gateways(2);
    (await reserve(both[0], 600, 100)).settle(100);
    const { sql } = dbs[0] as Db;
    await sql.unsafe("ALTER TABLE token_days RENAME TO away");
    (await reserve(both[0], 600, 400)).settle(400);
    expect(await tried(both[0], 600, 600)).toBe(0);
    await sql.unsafe("ALTER TABLE away RENAME TO token_days");
    await both[0]?.tick();
    expect(await tried(both[1], 600, 100)).toBe(0);
    time.now += 60_000;
    for (const gateway of both) await gateway.tick();
    expect(await leased()).toBe(500);
  });

  test("what a killed gateway held is free again when another one has looked long enough", async () => {
    const [killed, other] = watched(2);
    (await reserve(killed, 6_000, 500)).settle(300);
    await killed?.tick();
    await reserve(killed, 6_000, 1_000);
    expect(await tried(other, 6_000, 5_000)).toBe(0);
    for (let look = 0; look <= LOOKS_MAX; look++) {
      expect(await tried(other, 6_000, 5_000)).toBe(0);
      await other?.holders.look();
    }
    time.now += 1_000; // a refusal is good for a second
    expect(await tried(other, 6_000, 6_000)).toBe(0);
    expect(await leased()).toBe(6_000);
    await other?.holders.stop();
    expect(await leased()).toBe(300);
  });

  test("a gateway that beats is left alone; one that stops gives back what it held", async () => {
    const [first, second] = watched(2);
    await reserve(first, 6_000, 1_000);
    for (let look = 0; look < 3 * LOOKS_MAX; look++) {
      await second?.holders.look();
      if (look % 2 === 0) await first?.holders.look();
    }
    expect(await leased()).toBe(1_000);
    await first?.holders.stop();
    expect(await leased()).toBe(0);
  });

  test("whoever dies, or is taken for dead and is not: in the end what is taken is what was used", async () => {
    let keys = 0;
    const step = fc.record({
      gateway: fc.nat(2),
      act: fc.constantFrom("call", "call", "end", "tick", "die", "mistaken"),
      tokens: fc.integer({ min: 1, max: 300 }),
      // Beyond 1 a call uses more than it reserved.
      used: fc.double({ min: 0, max: 2, noNaN: true }),
    });
    const { sql } = dbs[0] as Db;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 3_000 }), fc.array(step, { maxLength: 60 }), async (limit, steps) => {
        const key = `key-${++keys}`;
        const start = (db: Db) => ({ ...gatewayOn(db), running: [] as ((factor: number) => void)[], untold: 0 });
        const living = dbs.map(start);
        let told = 0;
        const tick = async (one: (typeof living)[number]): Promise<void> => {
          await one.tick();
          told += one.untold;
          one.untold = 0;
        };
        for (const { gateway, act, tokens, used } of steps) {
          const one = living[gateway] as (typeof living)[number];
          if (act === "call") {
            const reservation = await reserveOrNull(one, key, limit, tokens);
            const end = (factor: number): void => {
              const spent = Math.floor(tokens * factor);
              one.untold += spent;
              reservation?.settle(spent);
            };
            if (reservation) one.running.push(end);
          } else if (act === "end") one.running.shift()?.(used);
          else if (act === "tick") await tick(one);
          else await release(sql, one.holder, null);
          // What it had not told, nobody knows.
          if (act === "die") living[gateway] = start(dbs[gateway] as Db);
        }
        for (const one of living) {
          for (const end of one.running) end(1);
          await tick(one);
          await release(sql, one.holder, null);
        }
        const [row] = await sql`SELECT leased FROM token_days WHERE key_id = ${key}`;
        expect(Number(row?.leased ?? 0)).toBe(told);
      }),
      { numRuns: name === "SQLite" ? 60 : 10 },
    );
  });
});

async function reserveOrNull({ quotas }: Gateway, key: string, limit: number, tokens: number) {
  try {
    return await quotas.reserve(key, limit, tokens);
  } catch {
    return null; // refused
  }
}
