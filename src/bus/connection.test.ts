import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { codeOf } from "../../tests/code-of.ts";
import { silentLog } from "../log.ts";
import { openBus } from "./connection.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker({ partitions: 0 });
});
afterAll(() => broker.stop());

describe("request", () => {
  test("many at once, each gets its own answer, with headers and bytes as they were sent", async () => {
    const { bus } = broker;
    const server = bus.subscribe("answer", (message) => {
      bus.publish(message.reply, `${message.text()}/${message.header("x-number")}`);
    });
    const all = Array.from({ length: 500 }, (_, i) =>
      bus.request("answer", `ü${i}`, { timeoutMs: 10_000, headers: { "x-number": String(i) } }),
    );
    expect((await Promise.all(all)).map((reply) => reply.text())).toEqual(all.map((_, i) => `ü${i}/${i}`));
    server.unsubscribe();
  });

  test("nobody listens: known at once; nobody answers: known at the deadline", async () => {
    const started = performance.now();
    expect(await codeOf(broker.bus.request("nobody", "", { timeoutMs: 10_000 }))).toBe("broker_unavailable");
    expect(performance.now() - started).toBeLessThan(5_000);
    const silent = broker.bus.subscribe("silent", () => {});
    expect(await codeOf(broker.bus.request("silent", "", { timeoutMs: 50 }))).toBe("broker_unavailable");
    silent.unsubscribe();
  });

  test.each([{ timeoutMs: 5_000 }, { timeoutMs: 5_000, headers: { "x-number": "1" } }])(
    "more than the broker takes is refused here and cuts nothing: %p",
    async (options) => {
      const { bus } = broker;
      const reconnected = { count: 0 };
      const stop = bus.onReconnect(() => void reconnected.count++);
      const server = bus.subscribe("large", (message) => bus.publish(message.reply, String(message.data.length)));
      const send = (bytes: number) => bus.request("large", "x".repeat(bytes), options);
      expect(await codeOf(send(1024 * 1024))).toBe("internal");
      expect((await send(1_000_000)).text()).toBe("1000000");
      expect(reconnected.count).toBe(0);
      server.unsubscribe();
      stop();
    },
  );

  test("an answer that comes late goes to nobody else", async () => {
    const { bus } = broker;
    const replies: string[] = [];
    const slow = bus.subscribe("slow", (message) => void replies.push(message.reply));
    expect(await codeOf(bus.request("slow", "", { timeoutMs: 50 }))).toBe("broker_unavailable");
    slow.unsubscribe();
    bus.publish(replies[0] ?? "", "late");
    const server = bus.subscribe("echo", (message) => bus.publish(message.reply, "mine"));
    expect((await bus.request("echo", "", { timeoutMs: 5_000 })).text()).toBe("mine");
    server.unsubscribe();
  });

  test("an empty answer with headers is not taken for a status", async () => {
    const { bus } = broker;
    const server = bus.subscribe("empty", (message) => bus.publish(message.reply, ""));
    const reply = await bus.request("empty", "", { timeoutMs: 5_000, headers: { a: "b" } });
    expect([reply.status, reply.text(), reply.header("missing")]).toEqual([0, "", ""]);
    server.unsubscribe();
  });
});

describe("subscriptions", () => {
  test("what was on its way is dropped by unsubscribe and handled by drain", async () => {
    const heard = { dropped: 0, drained: 0 };
    const dropped = broker.bus.subscribe("feed", () => void heard.dropped++);
    const drained = broker.bus.subscribe("feed", () => void heard.drained++);
    const other = await broker.connect();
    for (let i = 0; i < 100; i++) other.publish("feed", "x");
    dropped.unsubscribe();
    dropped.unsubscribe();
    await other.flush(5_000);
    await drained.drain();
    expect(heard).toEqual({ dropped: 0, drained: 100 });
  });
});

describe("a broker that dies", () => {
  test("requests under way and new ones fail at once; after its return all goes on by itself", async () => {
    const { bus } = broker;
    const events: string[] = [];
    const stops = [bus.onDisconnect(() => void events.push("lost")), bus.onReconnect(() => void events.push("back"))];
    const heard: string[] = [];
    const kept = bus.subscribe("kept", (message) => {
      heard.push(message.text());
      if (message.reply) bus.publish(message.reply, "ok");
    });
    const silent = bus.subscribe("silent", () => {});
    const under = codeOf(bus.request("silent", "", { timeoutMs: 60_000 }));
    await bus.flush(5_000);
    await broker.kill();
    expect(await under).toBe("broker_unavailable");
    expect(bus.connected).toBe(false);
    expect(await codeOf(bus.request("kept", "", { timeoutMs: 60_000 }))).toBe("broker_unavailable");
    expect(await bus.whenConnected(20)).toBe(false);
    const back = bus.whenConnected(20_000);
    await broker.restart();
    expect(await back).toBe(true);
    expect((await bus.request("kept", "again", { timeoutMs: 5_000 })).text()).toBe("ok");
    expect(heard.at(-1)).toBe("again");
    expect(events).toEqual(["lost", "back"]);
    for (const stop of stops) stop();
    kept.unsubscribe();
    silent.unsubscribe();
  }, 40_000);

  test("twice as well", async () => {
    for (let i = 0; i < 2; i++) {
      await broker.kill();
      await broker.restart();
    }
    await broker.bus.flush(5_000);
    expect(broker.bus.connected).toBe(true);
  }, 40_000);
});

describe("openBus", () => {
  test("a wrong token is refused at once, and is not in the message", async () => {
    const url = broker.url.replace(/\/\/[^@]+@/, "//not-the-secret-token@");
    const started = performance.now();
    const error = await openBus(url, "test", silentLog, 10_000).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "broker_unavailable" });
    expect(error.message).not.toContain("not-the-secret-token");
    expect(performance.now() - started).toBeLessThan(8_000);
  }, 15_000);

  test("where nothing listens it tries for as long as it was told", async () => {
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = taken;
    taken.stop(true);
    const started = performance.now();
    expect(await codeOf(openBus(`nats://127.0.0.1:${port}`, "test", silentLog, 300))).toBe("broker_unavailable");
    expect(performance.now() - started).toBeGreaterThanOrEqual(299);
  });

  test("a broker that comes up meanwhile is found", async () => {
    await broker.kill();
    const opening = openBus(broker.url, "test", silentLog, 20_000);
    await broker.restart();
    const bus = await opening;
    await bus.flush(5_000);
    await bus.close();
  }, 40_000);

  test("a closed one refuses and forgets", async () => {
    const bus = await openBus(broker.url, "test", silentLog);
    const before = await broker.subscriptions();
    const waiting = codeOf(bus.request("silent-2", "", { timeoutMs: 60_000 }).catch((error) => Promise.reject(error)));
    await bus.close();
    expect(await waiting).toBe("broker_unavailable");
    expect(bus.connected).toBe(false);
    expect(await codeOf(bus.request("kept", "", { timeoutMs: 1_000 }))).toBe("broker_unavailable");
    expect(await broker.subscriptions()).toBeLessThan(before);
  });
});
