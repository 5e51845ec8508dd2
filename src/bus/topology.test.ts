import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { asAppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import type { Bus } from "./connection.ts";
import { append } from "./log.ts";
import { streams, subjects } from "./subjects.ts";
import { difference, ensureTopology, fullness, lastSequence, type TopologyOptions } from "./topology.ts";

const HOUR_NANOS = 3_600_000_000_000;
let broker: Broker;
beforeEach(async () => {
  broker = await startBroker({ partitions: 0 });
});
afterEach(() => broker.stop());

const ensure = (options: Partial<TopologyOptions> = {}, bus: Bus = broker.bus) =>
  ensureTopology(bus, { partitions: null, durability: "fast", taskTtlMs: 24 * 3_600_000, ...options }, silentLog);

async function configs(): Promise<Map<string, StreamConfig>> {
  const manager = await jetstreamManager(broker.bus.connection);
  const found = new Map<string, StreamConfig>();
  for await (const { config } of manager.streams.list()) found.set(config.name, config);
  return found;
}
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => ({ code: "none", message: "" }),
    (error) => ({ code: asAppError(error)?.code ?? "other", message: String(error.message) }),
  );

describe("ensureTopology", () => {
  test("makes every stream and bucket, the logs durable and refusing when full, the rest loosely kept", async () => {
    expect(await ensure({ partitions: 2 })).toEqual({ partitions: 2 });
    const found = await configs();
    expect([...found.keys()].sort()).toEqual([
      "EVENTS",
      "JOBS_0",
      "JOBS_1",
      "KV_actors",
      "KV_models",
      "RESULTS_0",
      "RESULTS_1",
    ]);
    const log = { storage: "file", retention: "limits", discard: "new", max_bytes: 2 ** 30 };
    expect(found.get("JOBS_1")).toMatchObject({ ...log, subjects: ["millrace.jobs.1.>"], max_age: 0 });
    expect(found.get("RESULTS_1")).toMatchObject({ ...log, max_age: 25 * HOUR_NANOS });
    expect(found.get("JOBS_1")).not.toHaveProperty("persist_mode", "async");
    const events = { discard: "old", max_bytes: 2 ** 28, max_msgs: -1, max_age: 2 * HOUR_NANOS };
    expect(found.get("EVENTS")).toMatchObject({ ...events, persist_mode: "async" });
    expect(found.get("KV_actors")).toMatchObject({ max_msgs_per_subject: 1, max_age: 10_000_000_000 });
  });

  test("a second time, and many at once, change nothing", async () => {
    await ensure({ partitions: 3 });
    const before = await configs();
    const all = await Promise.all([ensure(), ensure({ partitions: 3 }), ensure({ durability: "fsync" })]);
    expect(all).toEqual([{ partitions: 3 }, { partitions: 3 }, { partitions: 3 }]);
    expect(await configs()).toEqual(before);
  });

  test("processes that start at once on an empty broker agree, whatever their default", async () => {
    const buses = await Promise.all(Array.from({ length: 6 }, () => broker.connect()));
    const all = await Promise.all(
      buses.map((bus, i) =>
        ensure({ durability: i % 2 === 0 ? "fsync" : "fast" }, bus).then((found) => found.partitions),
      ),
    );
    expect(new Set(all).size).toBe(1);
    const jobs = [...(await configs()).keys()].filter((name) => name.startsWith("JOBS_"));
    expect(jobs).toHaveLength(all[0] ?? 0);
  });

  test("a start that was cut off is completed, with its number of partitions", async () => {
    await ensure({ partitions: 4 });
    const manager = await jetstreamManager(broker.bus.connection);
    for (const name of ["JOBS_2", "JOBS_3", "RESULTS_0", "EVENTS"]) await manager.streams.delete(name);
    expect(await ensure()).toEqual({ partitions: 4 });
    expect((await configs()).size).toBe(4 + 4 + 3);
  });

  test.each([
    ["fsync", 8],
    ["fast", 1],
  ] as const)("partitions by default: DURABILITY=%s has %p, and keeps what it has", async (durability, partitions) => {
    expect(await ensure({ durability })).toEqual({ partitions });
    expect(await ensure({ durability: durability === "fast" ? "fsync" : "fast" })).toEqual({ partitions });
  });

  test("another number of partitions is refused with what to do, and nothing is changed", async () => {
    await ensure({ partitions: 2 });
    const before = await configs();
    for (const partitions of [1, 3]) {
      const { code, message } = await refusal(ensure({ partitions }));
      expect(code).toBe("topology_conflict");
      expect(message).toContain(`PARTITIONS is ${partitions}`);
      expect(message).toContain("set it to 2");
    }
    expect(await configs()).toEqual(before);
  });

  test("sizes and ages follow the settings, records stay", async () => {
    await ensure({ partitions: 1 });
    const id = "01arz3ndektsv4rrffq69g5fav";
    const subject = subjects.result(0, "echo", "success", id);
    const filter = subjects.anyResult(0, id);
    await append(broker.bus, { subject, filter, payload: "kept", expectedSequence: 0, timeoutMs: 5_000 });
    const manager = await jetstreamManager(broker.bus.connection);
    await manager.streams.update("JOBS_0", { max_bytes: 1_000_000 });
    await manager.streams.update("EVENTS", { max_msgs: 200_000 });
    await ensure({ taskTtlMs: 60_000 });
    const found = await configs();
    expect(found.get("JOBS_0")?.max_bytes).toBe(2 ** 31);
    expect(found.get("RESULTS_0")?.max_age).toBe(HOUR_NANOS + 60_000_000_000);
    // The id may be another task's afterwards: no event may outlive it.
    expect(found.get("EVENTS")).toMatchObject({ max_age: 60_000_000_000, max_msgs: -1 });
    expect(await lastSequence(broker.bus, streams.results(0))).toBe(1);
    await ensure();
    expect((await configs()).get("EVENTS")?.max_age).toBe(2 * HOUR_NANOS);
  });

  test("one that older versions made is taken over by its number of streams", async () => {
    await ensure({ partitions: 3 });
    const manager = await jetstreamManager(broker.bus.connection);
    for (const p of [0, 1, 2]) await manager.streams.update(streams.jobs(p), { metadata: {} });
    expect(await ensure()).toEqual({ partitions: 3 });
    expect(await ensure({ partitions: 3 })).toEqual({ partitions: 3 });
  });

  test("no room at the broker says so", async () => {
    const manager = await jetstreamManager(broker.bus.connection);
    const {
      storage,
      reserved_storage: reserved = 0,
      limits,
    } = (await manager.getAccountInfo()) as unknown as {
      storage: number;
      reserved_storage?: number;
      limits: { max_storage: number };
    };
    const response = await fetch(`${broker.server.monitorUrl}/jsz?config=true`);
    const { config } = (await response.json()) as { config: { max_storage: number } };
    const most = limits.max_storage > 0 ? limits.max_storage : config.max_storage;
    const left = most - Math.max(storage, reserved);
    await manager.streams.add({ name: "GREEDY", subjects: ["greedy"], max_bytes: left - 1_000_000 });
    const { code, message } = await refusal(ensure());
    expect(code).toBe("topology_conflict");
    expect(message).toMatch(/no room for stream .*free disk space or raise max_file_store/);
  });
});

describe("difference", () => {
  const wantedOf = async () => {
    await ensure({ partitions: 1 });
    const manager = await jetstreamManager(broker.bus.connection);
    const info = await manager.streams.info("JOBS_0");
    return { info, wanted: { ...info.config } };
  };

  test("none, some, and what is refused", async () => {
    const { info, wanted } = await wantedOf();
    expect(difference(info, wanted)).toBeNull();
    expect(difference(info, { ...wanted, max_bytes: 5_000, max_age: 7 })?.sort()).toEqual(["max_age", "max_bytes"]);
    for (const change of [{ storage: "memory" }, { retention: "workqueue" }, { persist_mode: "async" }]) {
      expect(() => difference(info, { ...wanted, ...change } as never)).toThrow(/fixed at creation; start on an empty/);
    }
  });

  test("a size below what is stored would drop records", async () => {
    const { info, wanted } = await wantedOf();
    const state = { ...info.state, messages: 3, bytes: 5_000 };
    expect(difference({ config: info.config, state }, { ...wanted, max_bytes: 5_000 })).toEqual(["max_bytes"]);
    expect(() => difference({ config: info.config, state }, { ...wanted, max_bytes: 4_999 })).toThrow(
      /JOBS_0 cannot be changed: it holds 5000 bytes, more than the 4999 that it may/,
    );
    const subjectsOf = { ...wanted, subjects: ["elsewhere.>"] };
    expect(() => difference({ config: info.config, state }, subjectsOf)).toThrow(/holds records under millrace.jobs.0/);
    expect(difference(info, subjectsOf)).toEqual(["subjects"]);
  });
});

test("fullness is the share of the fullest log, whichever it is", async () => {
  await ensure({ partitions: 2 });
  expect(await fullness(broker.bus, 2)).toBe(0);
  const manager = await jetstreamManager(broker.bus.connection);
  await manager.streams.update("RESULTS_1", { max_bytes: 10_000 });
  const id = "01arz3ndektsv4rrffq69g5fav";
  const subject = subjects.result(1, "echo", "success", id);
  const filter = subjects.anyResult(1, id);
  await append(broker.bus, { subject, filter, payload: "x".repeat(5_000), expectedSequence: 0, timeoutMs: 5_000 });
  const share = await fullness(broker.bus, 2);
  expect(share > 0.5 && share < 0.6).toBe(true);
  expect(await refusal(fullness(broker.bus, 3))).not.toMatchObject({ code: "none" });
});
