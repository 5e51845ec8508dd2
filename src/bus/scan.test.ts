import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { randomTaskId } from "../ids.ts";
import { append } from "./log.ts";
import { openScan, type Scan } from "./scan.ts";
import { streams, subjects } from "./subjects.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.stop());

const stream = streams.results(0);
/** One more record, every third with the header. */
async function store(n: number): Promise<void> {
  const id = randomTaskId(Date.now());
  const subject = subjects.result(0, "echo", "success", id);
  const headers: Record<string, string> = n % 3 === 0 ? { "X-Mark": `${n}` } : {};
  const record = { subject, filter: subjects.anyResult(0, id), payload: "content", expectedSequence: 0 };
  await append(broker.bus, { ...record, timeoutMs: 5_000, headers });
}
async function readTo(scan: Scan, from: number, last: number, max: number) {
  const found: { sequence: number; header: string }[] = [];
  for (let next = from; next <= last; ) {
    const batch = await scan.read(next, max);
    found.push(...batch.records.map(({ sequence, header }) => ({ sequence, header })));
    next = batch.nextSequence;
  }
  return found;
}
const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);

test("records that are stored while it reads are all seen, once and in order, with their header", async () => {
  const scan = openScan(broker.bus, stream, "X-Mark");
  expect(await scan.read(1, 10)).toEqual({ records: [], nextSequence: 1, more: false });
  const storing = (async () => {
    for (const n of upTo(300)) await store(n);
  })();
  const found = await readTo(scan, 1, 300, 7);
  await storing;
  expect(found.map(({ sequence }) => sequence)).toEqual(upTo(300));
  expect(found.filter(({ header }) => header !== "").map(({ header }) => Number(header))).toEqual(
    upTo(300).filter((n) => n % 3 === 0),
  );
});

test("any place can be asked for again, and a batch says whether there is more", async () => {
  const scan = openScan(broker.bus, stream, "X-Mark");
  for (const from of [291, 291, 5]) {
    const batch = await scan.read(from, 4);
    expect(batch.records.map(({ sequence }) => sequence)).toEqual([from, from + 1, from + 2, from + 3]);
    expect([batch.nextSequence, batch.more]).toEqual([from + 4, true]);
  }
  expect((await scan.read(298, 3)).more).toBe(false);
});

test("a place beyond the end is of a stream that has lost it: it begins anew", async () => {
  const batch = await openScan(broker.bus, stream, "X-Mark").read(5_000, 2);
  expect(batch.records.map(({ sequence }) => sequence)).toEqual([1, 2]);
});

test("it goes on where it was when the broker was killed and is back", async () => {
  const scan = openScan(broker.bus, stream, "X-Mark");
  expect((await scan.read(290, 5)).nextSequence).toBe(295);
  await broker.kill();
  await broker.restart();
  expect((await readTo(scan, 295, 300, 5)).map(({ sequence }) => sequence)).toEqual([295, 296, 297, 298, 299, 300]);
});
