// An actor's usage on its way to the database, over a real broker, to the services of two gateways.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { forEachDatabase } from "../../tests/databases.ts";
import { until } from "../../tests/stack.ts";
import { subjects } from "../bus/subjects.ts";
import { type Db, openUsage } from "../db/db.ts";
import { AppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import { openRemoteLedger, type RemoteLedger } from "./remote-ledger.ts";
import { startUsageService } from "./service.ts";
import { DAY_MS } from "./store.ts";
import { openUsageLedger, type Usage } from "./usage.ts";

const midnight = Date.UTC(2026, 10, 21);
const time = { now: midnight };
const clock = { now: () => time.now, monotonicMs: () => time.now };
const LIMIT = 1_000;

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker({ partitions: 0 });
});
afterAll(() => broker.stop());

forEachDatabase(({ empty }) => {
  let db: Db;
  let usage: Usage;
  let actor: RemoteLedger;
  let folder: string;
  const open = (): RemoteLedger =>
    openRemoteLedger({ bus: broker.bus, leftPath: join(folder, "left.jsonl"), clock, log: silentLog });
  const stops: (() => Promise<void>)[] = [];
  beforeEach(async () => {
    time.now = midnight;
    db = await openUsage(await empty());
    usage = openUsageLedger({ sql: db.sql, limitOf: (key) => (key === "alice" ? LIMIT : 0), clock, log: silentLog });
    folder = await mkdtemp(join(tmpdir(), "millrace-usage-"));
    actor = open();
    stops.push(() => rm(folder, { recursive: true }), db.close, usage.stop, actor.stop);
  });
  afterEach(async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
    await broker.bus.flush(5_000);
  });
  const serve = (given: Pick<Usage, "count" | "requireQuota"> = usage): void => {
    const service = startUsageService({ bus: broker.bus, usage: given, log: silentLog });
    stops.push(service.stop);
  };
  const record = (keyId: string, tokens: number): void =>
    actor.record({ keyId, model: "a", provider: "b", promptTokens: tokens, completionTokens: 1, cachedTokens: 0 });
  const counted = (requests: number): Promise<number> =>
    until(`${requests} calls are counted`, 10_000, async () => {
      const query = { fromMs: midnight, toMs: midnight + DAY_MS, keyId: null, groups: [] };
      const [sum] = await usage.report(query);
      return sum?.requests === requests ? sum.promptTokens : null;
    });

  test("what no gateway took before the actor ended is sent by the next one, and counts once", async () => {
    record("alice", 10);
    await actor.stop();
    const left = join(folder, "left.jsonl");
    const text = await readFile(left, "utf8");
    actor = open();
    stops.push(actor.stop);
    record("alice", 5);
    serve();
    expect(await counted(2)).toBe(15);
    await until("the file is gone while the actor goes on", 5_000, async () => (existsSync(left) ? null : true));
    // The actor died before it took the file away; and a line that nobody can read costs no other.
    await actor.stop();
    await writeFile(left, `no JSON\n${text}`);
    actor = open();
    stops.push(actor.stop);
    record("alice", 1);
    expect(await counted(3)).toBe(16);
  });

  test("what runners used is counted within a second, and once where the answer was lost", async () => {
    let answers = 0;
    serve({
      ...usage,
      async count(id, rows) {
        await usage.count(id, rows);
        answers++;
        if (answers === 1) throw new AppError("database_unavailable", "the answer is lost");
      },
    });
    record("alice", 10);
    record("bob", 20);
    expect(await counted(2)).toBe(30);
    record("bob", 30);
    await actor.stop(); // sends what is there
    await actor.stop();
    expect(await counted(3)).toBe(60);
    expect(answers).toBe(3);
  });

  test("without a gateway calls go on, and are counted when there is one", async () => {
    expect(await actor.reserve("alice", () => 1)).toBeNull();
    record("alice", 10);
    await actor.stop(); // tries once, in vain
    serve();
    await actor.stop();
    expect(await counted(1)).toBe(10);
  });

  test("a key that has used up its day is refused, and asked for once a second", async () => {
    let asked = 0;
    serve({
      ...usage,
      requireQuota(keyId) {
        asked++;
        return usage.requireQuota(keyId);
      },
    });
    const admit = async (keyId: string): Promise<unknown> => actor.reserve(keyId, () => 1);
    expect(await admit("alice")).toBeNull();
    record("alice", LIMIT);
    await actor.stop(); // has it sent
    await counted(1);
    expect(await admit("alice")).toBeNull(); // what was said is good for a second
    time.now += 1_000;
    for (const word of await Promise.allSettled([admit("alice"), admit("alice")])) expect(word.status).toBe("rejected");
    for (let i = 0; i < 3; i++) await expect(admit("alice")).rejects.toMatchObject({ code: "insufficient_quota" });
    expect(await admit("bob")).toBeNull();
    expect(asked).toBe(3);
    time.now = midnight + DAY_MS;
    expect(await admit("alice")).toBeNull();
  });

  test("what is not understood is answered so, and counts nothing", async () => {
    serve();
    const row = { keyId: "bob", hourMs: midnight, model: "a", provider: "b" };
    const sums = { requests: 1, promptTokens: 1, completionTokens: 1, cachedTokens: 0 };
    for (const question of [
      "",
      "{",
      "[]",
      "null",
      { v: 2, type: "admit", keyId: "bob" },
      { v: 1, type: "admit", keyId: "bob\u0000" },
      { v: 1, type: "count", id: "x y", rows: [] },
      { v: 1, type: "count", id: "x", rows: [{ ...row, ...sums, promptTokens: -1 }] },
      { v: 1, type: "count", id: "x", rows: [{ ...row, ...sums, hourMs: midnight + 1 }] },
      { v: 1, type: "count", id: "x", rows: [{ ...row, ...sums, model: "a".repeat(257) }] },
      {
        v: 1,
        type: "count",
        id: "x",
        rows: [
          { ...row, ...sums },
          { ...row, ...sums },
        ],
      },
      {
        v: 1,
        type: "count",
        id: "x",
        rows: Array.from({ length: 1_001 }, (_, i) => ({ ...row, ...sums, model: `${i}` })),
      },
    ]) {
      const text = typeof question === "string" ? question : JSON.stringify(question);
      const answer = await broker.bus.request(subjects.usage, text, { timeoutMs: 5_000 });
      expect(JSON.parse(answer.text())).toEqual({ v: 1, type: "unknown" });
    }
    expect(await usage.report({ fromMs: 0, toMs: midnight + DAY_MS, keyId: null, groups: [] })).toEqual([]);
  });
});
