import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import { asAppError } from "../errors.ts";
import { randomTaskId } from "../ids.ts";
import { silentLog } from "../log.ts";
import { type FollowedRecord, type Follower, type FollowOptions, follow } from "./follow.ts";
import { append, readLast } from "./log.ts";
import { streams, subjects } from "./subjects.ts";
import { lastSequence } from "./topology.ts";

let broker: Broker;
const following: Follower[] = [];
beforeAll(async () => {
  broker = await startBroker({ partitions: 4 });
});
afterEach(() => {
  for (const follower of following.splice(0)) follower.stop();
});
afterAll(() => broker.stop());

/** Adds `count` records to the log of results of a partition; resolves to their payloads. */
async function write(partition: number, count: number, bus = broker.bus): Promise<string[]> {
  const payloads = Array.from({ length: count }, () => randomTaskId(Date.now()));
  for (let i = 0; i < count; i += 200) {
    await Promise.all(
      payloads.slice(i, i + 200).map((id) =>
        append(bus, {
          subject: subjects.result(partition, "echo", "success", id),
          filter: subjects.anyResult(partition, id),
          payload: id,
          expectedSequence: 0,
          timeoutMs: 5_000,
        }),
      ),
    );
  }
  return payloads;
}

async function start(partition: number, options: Partial<FollowOptions> = {}) {
  const heard: { readonly sequence: number; readonly text: string; readonly pending: number }[] = [];
  const changed = signal();
  const follower = await follow(broker.bus, {
    stream: streams.results(partition),
    fromSequence: 1,
    log: silentLog,
    onRecord: (record: FollowedRecord) => {
      heard.push({ sequence: record.sequence, text: record.text(), pending: record.pending });
      changed.notify();
    },
    ...options,
  });
  following.push(follower);
  return { follower, heard, until: changed.until };
}
const sequences = (heard: readonly { readonly sequence: number }[]): number[] => heard.map((each) => each.sequence);
const upTo = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

describe("follow", () => {
  test("an empty stream is caught up at once, and what comes later is heard", async () => {
    const { follower, heard, until } = await start(0);
    await follower.caughtUp;
    expect(heard).toEqual([]);
    const written = await write(0, 3);
    await until(() => heard.length === 3);
    expect(heard.map((each) => each.text).sort()).toEqual(written.sort());
  });

  test("a stream with records is caught up when all of them were handed over, in order", async () => {
    await write(1, 1_500);
    const { follower, heard } = await start(1);
    await follower.caughtUp;
    expect(sequences(heard)).toEqual(upTo(1, 1_500));
    expect(heard.at(-1)?.pending).toBe(0);
  });

  test("starts where it is told, and after the end of the stream waits for what comes", async () => {
    await write(1, 10);
    const last = await lastSequence(broker.bus, streams.results(1));
    const late = await start(1, { fromSequence: last - 2 });
    await late.follower.caughtUp;
    expect(sequences(late.heard)).toEqual([last - 2, last - 1, last]);
    const after = await start(1, { fromSequence: last + 1 });
    await after.follower.caughtUp;
    expect(after.heard).toEqual([]);
    await write(1, 1);
    await after.until(() => after.heard.length === 1);
    expect(sequences(after.heard)).toEqual([last + 1]);
  });

  test("a filter leaves out the others, and is caught up where none matches", async () => {
    const [id = ""] = await write(1, 1);
    const one = await start(1, { filter: subjects.anyResult(1, id) });
    await one.follower.caughtUp;
    expect(one.heard.map((each) => each.text)).toEqual([id]);
    const none = await start(1, { filter: subjects.anyResult(1, randomTaskId(0)) });
    await none.follower.caughtUp;
    expect(none.heard).toEqual([]);
  });

  test("a stream that ends before what was read of it has lost its end, and is read anew", async () => {
    const last = await lastSequence(broker.bus, streams.results(1));
    const { follower, heard } = await start(1, { fromSequence: last + 2 });
    await follower.caughtUp;
    expect(sequences(heard)).toEqual(upTo(1, last));
  });

  test("nothing is heard after stop, and caughtUp does not hang", async () => {
    const { follower, heard } = await start(2, {});
    follower.stop();
    follower.stop();
    await follower.caughtUp;
    const before = heard.length;
    await write(2, 5);
    await broker.bus.flush(5_000);
    expect(heard.length).toBe(before);
  });

  test("a stream that is missing is an error, and leaves nothing behind", async () => {
    const before = await broker.subscriptions();
    const failed = await start(0, { stream: "NOT_THERE" }).catch(asAppError);
    expect(failed).toMatchObject({ code: "broker_unavailable" });
    expect(await broker.subscriptions()).toBe(before);
  });

  test("kill -9 of the broker in the middle of the traffic: no gap, no repeat, no other order", async () => {
    const { follower, heard, until } = await start(3);
    await follower.caughtUp;
    for (let round = 0; round < 2; round++) {
      const first = await write(3, 300);
      // The broker dies while records are on their way.
      const writing = write(3, 300).catch(() => []);
      await until(() => heard.length > first.length);
      await broker.kill();
      await writing;
      await broker.restart();
      await write(3, 300);
      const last = await lastSequence(broker.bus, streams.results(3));
      await until(() => (heard.at(-1)?.sequence ?? 0) >= last);
      expect(sequences(heard)).toEqual(upTo(1, last));
    }
    // What was heard is what is stored.
    for (const { text, sequence } of [heard[0], heard[350], heard.at(-1)].flatMap((each) => each ?? [])) {
      const stored = await readLast(broker.bus, streams.results(3), subjects.anyResult(3, text), 5_000);
      expect(stored?.sequence).toBe(sequence);
    }
  }, 60_000);

  test("a consumer that the broker has lost is made anew when the connection comes back", async () => {
    const { follower, heard, until } = await start(0);
    await follower.caughtUp;
    const before = heard.length;
    await broker.kill();
    await broker.restart();
    const backAtMs = performance.now();
    await write(0, 20);
    const last = await lastSequence(broker.bus, streams.results(0));
    await until(() => (heard.at(-1)?.sequence ?? 0) >= last);
    expect(performance.now() - backAtMs).toBeLessThan(10_000); // silence alone would be noticed later
    expect(heard.length - before).toBe(20);
    expect(sequences(heard)).toEqual(upTo(1, last));
  }, 60_000);
});
