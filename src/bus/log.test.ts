import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { jetstreamManager } from "@nats-io/jetstream";
import fc from "fast-check";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { codeOf } from "../../tests/code-of.ts";
import { randomTaskId } from "../ids.ts";
import { type Append, append, readLast, readRange } from "./log.ts";
import { streams, subjects } from "./subjects.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.stop());

const freshId = (): string => randomTaskId(Date.now());
const ending = (taskId: string, fields: Partial<Append> = {}): Append => ({
  subject: subjects.result(0, "echo", "success", taskId),
  filter: subjects.anyResult(0, taskId),
  payload: "first",
  expectedSequence: 0,
  timeoutMs: 5_000,
  ...fields,
});
describe("append", () => {
  test("stores the first record of a task and refuses every other, of whatever status and model", async () => {
    const { bus } = broker;
    const id = freshId();
    const first = await append(bus, ending(id));
    expect(first).toEqual({ kind: "stored", sequence: expect.any(Number) });
    for (const subject of [
      subjects.result(0, "echo", "success", id),
      subjects.result(0, "echo", "failure", id),
      subjects.result(0, "other", "cancelled", id),
    ]) {
      expect(await append(bus, ending(id, { subject, payload: "second" }))).toEqual({ kind: "refused" });
    }
    expect((await readLast(bus, streams.results(0), subjects.anyResult(0, id), 5_000))?.text).toBe("first");
  });

  test("of many at once, one is stored", async () => {
    const id = freshId();
    const writers = await Promise.all([broker.connect(), broker.connect()]);
    const all = Array.from({ length: 50 }, (_, i) =>
      append(writers[i % 2] ?? broker.bus, ending(id, { payload: `${i}` })),
    );
    const outcomes = await Promise.all(all);
    const winners = outcomes.flatMap((outcome, i) => (outcome.kind === "stored" ? [`${i}`] : []));
    expect(winners).toHaveLength(1);
    const stands = await readLast(broker.bus, streams.results(0), subjects.anyResult(0, id), 5_000);
    expect(stands?.text).toBe(winners[0] ?? "");
  });

  test("a record may follow just the one that it names", async () => {
    const { bus } = broker;
    const id = freshId();
    const marker = await append(bus, ending(id, { subject: subjects.result(0, "echo", "cancelling", id) }));
    if (marker.kind !== "stored") throw new Error("refused");
    const cancelled = subjects.result(0, "echo", "cancelled", id);
    const wrong = ending(id, { subject: cancelled, expectedSequence: marker.sequence - 1 });
    expect(await append(bus, wrong)).toEqual({ kind: "refused" });
    const right = ending(id, { subject: cancelled, expectedSequence: marker.sequence });
    expect(await append(bus, right)).toEqual({ kind: "stored", sequence: marker.sequence + 1 });
    expect(await append(bus, right)).toEqual({ kind: "refused" });
  });

  test("a full stream is queue_full, and what it holds is refused as before", async () => {
    const { bus } = broker;
    const manager = await jetstreamManager(bus.connection);
    await manager.streams.add({
      name: "SMALL",
      subjects: ["small.*"],
      max_bytes: 2_000,
      discard: "new" as never,
    });
    const put = (name: string, payload: string) =>
      append(bus, {
        subject: `small.${name}`,
        filter: `small.${name}`,
        payload,
        expectedSequence: 0,
        timeoutMs: 5_000,
      });
    expect((await put("a", "x".repeat(1_500))).kind).toBe("stored");
    expect(await codeOf(put("b", "x".repeat(1_500)))).toBe("queue_full");
    expect(await put("a", "x")).toEqual({ kind: "refused" });
    await manager.streams.delete("SMALL");
  });

  test("an unknown outcome is broker_unavailable, at its deadline", async () => {
    // Nobody listens: no stream, no reply.
    expect(await codeOf(append(broker.bus, ending(freshId(), { subject: "nowhere.at.all" })))).toBe(
      "broker_unavailable",
    );
    const silent = broker.bus.subscribe("silent.subject", () => {});
    const started = performance.now();
    const slow = ending(freshId(), { subject: "silent.subject", timeoutMs: 200 });
    expect(await codeOf(append(broker.bus, slow))).toBe("broker_unavailable");
    expect(performance.now() - started).toBeGreaterThanOrEqual(199);
    silent.unsubscribe();
  });
});

describe("readLast", () => {
  test("the newest of several, to the letter, with its time; null for none", async () => {
    const { bus } = broker;
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary" }), async (payload) => {
        const id = freshId();
        expect(await readLast(bus, streams.results(0), subjects.anyResult(0, id), 5_000)).toBeNull();
        const before = Date.now();
        const subject = subjects.result(0, "echo", "cancelling", id);
        const marker = await append(bus, ending(id, { subject }));
        const expectedSequence = marker.kind === "stored" ? marker.sequence : 0;
        await append(bus, ending(id, { payload, expectedSequence }));
        const last = await readLast(bus, streams.results(0), subjects.anyResult(0, id), 5_000);
        expect(last).toMatchObject({ subject: ending(id).subject, sequence: expectedSequence + 1, text: payload });
        expect(Math.abs((last?.storedAtMs ?? 0) - before)).toBeLessThan(5_000);
      }),
      { numRuns: 30 },
    );
  });

  test("a stream that is missing is not an empty one", async () => {
    expect(await codeOf(readLast(broker.bus, "NOT_THERE", "x", 1_000))).toBe("broker_unavailable");
  });
});

describe("readRange", () => {
  test.each([0, 1, 255, 256, 257, 600])("%p events, in order and whole, among those of others", async (count) => {
    const { bus } = broker;
    const [mine, other] = [freshId(), freshId()];
    for (let n = 0; n < count; n++) {
      bus.publish(subjects.events(mine), `${n}`);
      bus.publish(subjects.events(other), "other");
    }
    await bus.request(subjects.events(other), "last", { timeoutMs: 5_000 });
    const records = await readRange(bus, streams.events, subjects.events(mine), 1);
    expect(records.map((record) => record.text)).toEqual(Array.from({ length: count }, (_, n) => `${n}`));
    expect(records.every((record) => record.subject === subjects.events(mine))).toBe(true);
    const middle = records[Math.floor(count / 2)];
    if (!middle) return;
    const rest = await readRange(bus, streams.events, subjects.events(mine), middle.sequence);
    expect(rest).toEqual(records.slice(Math.floor(count / 2)));
  });

  test("leaves no subscription", async () => {
    const before = await broker.subscriptions();
    for (let i = 0; i < 5; i++) await readRange(broker.bus, streams.events, subjects.events(freshId()), 1);
    expect(await broker.subscriptions()).toBe(before);
  });

  test("an event without content does not end it", async () => {
    const { bus } = broker;
    const id = freshId();
    await bus.request(subjects.events(id), "", { timeoutMs: 5_000 });
    await bus.request(subjects.events(id), "after", { timeoutMs: 5_000 });
    expect((await readRange(bus, streams.events, subjects.events(id), 1)).map((record) => record.text)).toEqual([
      "",
      "after",
    ]);
  });
});
