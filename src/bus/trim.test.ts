import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { codeOf } from "../../tests/code-of.ts";
import { randomTaskId } from "../ids.ts";
import { append, readLast } from "./log.ts";
import { streams, subjects } from "./subjects.ts";
import { deleteRecord, firstSequence, firstSince, purgeBelow, readOldest } from "./trim.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker({ partitions: 4 });
});
afterAll(() => broker.stop());

/** Records in the log of results of a partition, one after the other; resolves to their subjects. */
async function write(partition: number, count: number): Promise<string[]> {
  const written: string[] = [];
  for (let i = 0; i < count; i++) {
    const id = randomTaskId(Date.now());
    const subject = subjects.result(partition, "echo", "success", id);
    const filter = subjects.anyResult(partition, id);
    await append(broker.bus, { subject, filter, payload: "x".repeat(100), expectedSequence: 0, timeoutMs: 5_000 });
    written.push(subject);
  }
  return written;
}
const stored = (subject: string, partition: number) => readLast(broker.bus, streams.results(partition), subject, 5_000);

describe("readOldest", () => {
  test("oldest first, as many as asked for, from where it is told, over what was deleted", async () => {
    const { bus } = broker;
    const stream = streams.results(0);
    expect(await readOldest(bus, stream, 1, 10)).toEqual([]);
    const written = await write(0, 30);
    const all = await readOldest(bus, stream, 1, 100);
    expect(all.map(({ subject }) => subject)).toEqual(written);
    expect(all.map(({ sequence }) => sequence)).toEqual(written.map((_, i) => i + 1));
    expect(await readOldest(bus, stream, 1, 7)).toEqual(all.slice(0, 7));
    expect(await readOldest(bus, stream, 8, 7)).toEqual(all.slice(7, 14));
    expect(await readOldest(bus, stream, 28, 100)).toEqual(all.slice(27));
    expect(await readOldest(bus, stream, 31, 100)).toEqual([]);
    for (const sequence of [5, 6, 20]) await deleteRecord(bus, stream, sequence);
    const left = all.filter(({ sequence }) => ![5, 6, 20].includes(sequence));
    expect(await readOldest(bus, stream, 1, 100)).toEqual(left);
    const first = await stored(written[0] ?? "", 0);
    expect(Math.abs((all[0]?.storedAtMs ?? 0) - (first?.storedAtMs ?? 0))).toBeLessThan(1);
  });

  test("a stream that is missing is an error, and no consumer is left behind", async () => {
    expect(await codeOf(readOldest(broker.bus, "NOT_THERE", 1, 1))).toBe("broker_unavailable");
    const reply = await broker.bus.request(`$JS.API.STREAM.INFO.${streams.results(0)}`, "", { timeoutMs: 5_000 });
    expect(JSON.parse(reply.text()).state.consumer_count).toBe(0);
  });
});

describe("removal", () => {
  test("purgeBelow keeps the record that it names, and all after it", async () => {
    const written = await write(1, 10);
    await purgeBelow(broker.bus, streams.results(1), 4);
    expect((await readOldest(broker.bus, streams.results(1), 1, 100)).map(({ subject }) => subject)).toEqual(
      written.slice(3),
    );
    expect(await firstSequence(broker.bus, streams.results(1))).toBe(4);
    await purgeBelow(broker.bus, streams.results(1), 11);
    expect(await readOldest(broker.bus, streams.results(1), 1, 100)).toEqual([]);
    expect(await firstSequence(broker.bus, streams.results(1))).toBe(11);
  });

  test("deleteRecord takes one, and a second time does no harm", async () => {
    const [a = "", b = "", c = ""] = await write(2, 3);
    for (let i = 0; i < 2; i++) await deleteRecord(broker.bus, streams.results(2), 2);
    expect([await stored(a, 2), await stored(b, 2), await stored(c, 2)].map((record) => record !== null)).toEqual([
      true,
      false,
      true,
    ]);
    expect(await codeOf(deleteRecord(broker.bus, "NOT_THERE", 1))).toBe("broker_unavailable");
  });

  test("firstSince is the first record that is not older", async () => {
    const { bus } = broker;
    const stream = streams.results(3);
    expect(await firstSince(bus, stream, Date.now() + 60_000)).toBe(0);
    await write(3, 5);
    const fifth = (await readOldest(bus, stream, 5, 1))[0]?.storedAtMs ?? 0;
    // Milliseconds are what this module is told; the sixth stands in a later one.
    while (Date.now() <= fifth + 1) await bus.flush(5_000);
    await write(3, 3);
    const sixth = (await readOldest(bus, stream, 6, 1))[0]?.storedAtMs ?? 0;
    expect(await firstSince(bus, stream, Math.floor(sixth))).toBe(6);
    expect(await firstSince(bus, stream, Date.now() + 60_000)).toBe(9);
    expect(await firstSince(bus, stream, Math.floor(fifth) - 60_000)).toBe(0);
  });
});
