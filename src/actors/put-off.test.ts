import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import type { BusMessage } from "../bus/connection.ts";
import { ensureQueue, nak, pull } from "../bus/queues.ts";
import { subjects } from "../bus/subjects.ts";
import { createPutOff } from "./put-off.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker({ partitions: 1 });
});
afterAll(() => broker.stop());

test("what was put off for long is delivered when it is woken, and what is about to come is left alone", async () => {
  const { bus } = broker;
  const at = { partition: 0, level: "normal", lane: "a", model: "m" } as const;
  await ensureQueue(bus, at);
  const came: BusMessage[] = [];
  const changed = signal();
  const inbox = bus.inbox();
  const subscription = bus.subscribe(inbox, (message) => {
    if (message.status === 0) came.push(message);
    changed.notify();
  });
  for (const id of ["01arz3ndektsv4rrffq69g5fa1", "01arz3ndektsv4rrffq69g5fa2"]) {
    await bus.request(subjects.job(at, id), "{}", { timeoutMs: 5_000 });
  }
  pull(bus, { at, batch: 2, expiresMs: 5_000, inbox });
  await changed.until(() => came.length === 2);
  const putOff = createPutOff(bus, () => 0);
  const [late, soon] = came.map(({ reply }) => reply);
  for (const reply of [late, soon]) nak(bus, reply ?? "", 60_000);
  putOff.add("late", late ?? "", 60_000);
  putOff.add("soon", soon ?? "", 50);
  putOff.add("gone", "acks.gone", 60_000);
  putOff.remove("gone");
  putOff.wake(0);
  pull(bus, { at, batch: 2, expiresMs: 2_000, inbox });
  await changed.until(() => came.length === 3);
  expect(came[2]?.subject).toBe(came[0]?.subject ?? "");
  pull(bus, { at, batch: 1, expiresMs: null, inbox });
  await bus.flush(5_000);
  expect(came.length).toBe(3);
  subscription.unsubscribe();
});

test("so many come back in a second, the others in the seconds after it", () => {
  const putOff = createPutOff(broker.bus, () => 0.5);
  const delays = Array.from({ length: 350 }, () => putOff.delayMs(10_000, 2_000));
  const counts = new Map<number, number>();
  for (const delay of delays) counts.set(delay, (counts.get(delay) ?? 0) + 1);
  expect([...counts]).toEqual([
    [2_000, 100],
    [3_500, 100],
    [4_500, 100],
    [5_500, 50],
  ]);
  expect(putOff.delayMs(10_000, 500)).toBe(500);
  expect(putOff.delayMs(13_000, 500)).toBe(2_500); // what comes back at 13 and at 14 s is full
  expect(putOff.delayMs(20_000, 500)).toBe(500);
});
