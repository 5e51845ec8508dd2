import { afterEach, beforeEach, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { type Db, openUsage } from "../db/db.ts";
import { silentLog } from "../log.ts";
import type { UsageEntry } from "./ledger.ts";
import type { UsageGroup, UsageSum } from "./report.ts";
import { DAY_MS, HOUR_MS } from "./store.ts";
import { openUsageLedger, USAGE_KEPT_MS, type Usage } from "./usage.ts";

const midnight = Date.UTC(2026, 10, 21);
const time = { now: midnight };
const clock = { now: () => time.now, monotonicMs: () => time.now };
const entry = (keyId: string, tokens: number, fields: Partial<UsageEntry> = {}): UsageEntry => ({
  keyId,
  model: "small",
  provider: "local",
  promptTokens: tokens,
  completionTokens: 2 * tokens,
  cachedTokens: 1,
  ...fields,
});
const tokensOf = ({ promptTokens, completionTokens, cachedTokens, requests }: UsageSum): number[] => [
  requests,
  promptTokens,
  completionTokens,
  cachedTokens,
];

forEachDatabase(({ empty, name }) => {
  let dbs: Db[];
  let ledgers: Usage[];
  const limits = new Map<string, number>();
  const open = (db: Db): Usage => {
    const usage = openUsageLedger({ sql: db.sql, limitOf: (key) => limits.get(key) ?? 0, clock, log: silentLog });
    ledgers.push(usage);
    return usage;
  };
  beforeEach(async () => {
    time.now = midnight + HOUR_MS / 2;
    limits.clear();
    ledgers = [];
    const place = await empty();
    dbs = await Promise.all([openUsage(place), openUsage(place)]);
  });
  afterEach(async () => {
    for (const usage of ledgers) await usage.stop();
    for (const { close } of dbs) await close();
  });
  const two = (): [Usage, Usage] => dbs.map(open) as [Usage, Usage];
  const report = (usage: Usage, keyId: string | null, ...groups: UsageGroup[]): Promise<UsageSum[]> =>
    usage.report({ fromMs: midnight, toMs: midnight + DAY_MS, keyId, groups });

  test("calls are summed up by key, hour, model and provider, over all gateways", async () => {
    const [first, second] = two();
    first.record(entry("alice", 10));
    first.record(entry("alice", 20, { model: "large" }));
    first.record(entry("bob", 1000));
    second.record(entry("alice", 30, { provider: "other" }));
    time.now += HOUR_MS;
    second.record(entry("alice", 40));
    await second.report({ fromMs: 0, toMs: 1, keyId: null, groups: [] }); // has it written
    expect((await report(first, "alice")).map(tokensOf)).toEqual([[4, 100, 200, 4]]);
    const byModel = await report(first, "alice", "model");
    expect(byModel.map((sum) => [sum.model, sum.keyId, ...tokensOf(sum)])).toEqual([
      ["large", null, 1, 20, 40, 1],
      ["small", null, 3, 80, 160, 3],
    ]);
    const byHour = await report(first, "alice", "hour", "provider");
    expect(byHour.map((sum) => [sum.startMs - midnight, sum.endMs - sum.startMs, sum.provider, sum.requests])).toEqual([
      [0, HOUR_MS, "local", 2],
      [0, HOUR_MS, "other", 1],
      [HOUR_MS, HOUR_MS, "local", 1],
    ]);
    const byKey = await report(first, null, "day", "key");
    expect(byKey.map((sum) => [sum.keyId, sum.startMs, sum.endMs, sum.promptTokens])).toEqual([
      ["alice", midnight, midnight + DAY_MS, 100],
      ["bob", midnight, midnight + DAY_MS, 1000],
    ]);
    expect(await first.report({ fromMs: 0, toMs: midnight, keyId: null, groups: [] })).toEqual([]);
  });

  test("what an actor counted is counted once, however often it comes, and against the key's quota", async () => {
    const [first, second] = two();
    limits.set("alice", 1_000);
    const [row] = [{ keyId: "alice", hourMs: midnight, model: "small", provider: "local" }].map((place) => ({
      ...place,
      requests: 2,
      promptTokens: 100,
      completionTokens: 500,
      cachedTokens: 0,
    }));
    if (!row) throw new Error("no row");
    for (const usage of [first, second, first]) await usage.count("batch-1", [row]);
    expect((await report(first, "alice")).map(tokensOf)).toEqual([[2, 100, 500, 0]]);
    expect(await second.quotaOf("alice")).toEqual({
      limit: 1_000,
      used: 600,
      remaining: 400,
      resetsMs: midnight + DAY_MS,
    });
    const small = await second.reserve("alice", () => 100);
    expect(small?.quota).toMatchObject({ limit: 1_000, remaining: 300 });
    small?.settle(0);
    const reservation = await second.reserve("alice", () => 5_000);
    expect(reservation?.quota).toMatchObject({ limit: 1_000, remaining: 0 });
    await expect(Promise.resolve(first.reserve("alice", () => 1))).rejects.toMatchObject({
      code: "insufficient_quota",
    });
    reservation?.settle(0);
  });

  test("while the database is away usage waits, and is written once when it is back", async () => {
    const [first] = two();
    const { sql } = dbs[0] as Db;
    first.record(entry("alice", 10));
    await sql.unsafe("ALTER TABLE token_usage RENAME TO away");
    await expect(report(first, "alice")).rejects.toThrow();
    first.record(entry("alice", 20));
    await sql.unsafe("ALTER TABLE away RENAME TO token_usage");
    expect((await report(first, "alice")).map(tokensOf)).toEqual([[2, 30, 60, 2]]);
    expect((await report(first, "alice")).map(tokensOf)).toEqual([[2, 30, 60, 2]]);
  });

  test("ten thousand calls of two gateways at once are all counted", async () => {
    const both = two();
    // On SQLite one after the other: a connection that waits for another of its own thread waits for ever.
    const writeBoth = async (): Promise<void> => {
      const write = (usage: Usage): Promise<UsageSum[]> => report(usage, "nobody");
      if (name === "PostgreSQL") await Promise.all(both.map(write));
      else for (const usage of both) await write(usage);
    };
    for (let i = 0; i < 10_000; i++) {
      both[i % 2]?.record(entry(`key-${i % 200}`, 1, { model: `model-${i % 7}` }));
      if (i % 1_000 === 999) await writeBoth();
    }
    expect((await report(both[0], null)).map(tokensOf)).toEqual([[10_000, 10_000, 20_000, 10_000]]);
    expect(await report(both[0], null, "key", "model")).toHaveLength(1_400);
  });

  test("a question for too many rows is refused, and old hours are deleted", async () => {
    const [first] = two();
    for (let i = 0; i <= 10_000; i++) first.record(entry(`key-${i}`, 1));
    await expect(report(first, null, "key")).rejects.toMatchObject({ code: "invalid_request" });
    expect((await report(first, null))[0]?.requests).toBe(10_001);
    time.now += USAGE_KEPT_MS + HOUR_MS;
    first.record(entry("alice", 1));
    await report(first, null);
    expect(await report(first, null)).toEqual([]);
  });
});
