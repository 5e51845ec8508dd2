import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import { asAppError } from "../errors.ts";
import { randomTaskId } from "../ids.ts";
import type { BusMessage } from "./connection.ts";
import { append } from "./log.ts";
import { ack, ensureQueue, lastWaiting, listQueues, nak, nextWaiting, pull, working } from "./queues.ts";
import { type Delivery, parseDelivery, type QueueAddress, streams, subjects } from "./subjects.ts";
import { lastSequence } from "./topology.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker({ partitions: 2 });
});
afterAll(() => broker.stop());

const queue = (model: string, fields: Partial<QueueAddress> = {}): QueueAddress => ({
  partition: 0,
  level: "normal",
  lane: "a",
  model,
  ...fields,
});

async function publish(at: QueueAddress, count = 1): Promise<string[]> {
  const ids = Array.from({ length: count }, (_, i) => randomTaskId(Date.now() + i));
  for (const id of ids) {
    const filter = subjects.anyJob(at.partition, id);
    await append(broker.bus, {
      subject: subjects.job(at, id),
      filter,
      payload: id,
      expectedSequence: 0,
      timeoutMs: 5_000,
    });
  }
  return ids;
}

/** Pulls into a fresh inbox: what came, in order, and how the pull ended. */
function asking(at: QueueAddress, batch: number, expiresMs: number | null) {
  const jobs: { readonly id: string; readonly ackSubject: string; readonly delivery: Delivery }[] = [];
  const ends: number[] = [];
  const changed = signal();
  const inbox = broker.bus.inbox();
  const subscription = broker.bus.subscribe(inbox, (message: BusMessage) => {
    const delivery = parseDelivery(message.reply);
    if (message.status !== 0) ends.push(message.status);
    else if (delivery) jobs.push({ id: message.text(), ackSubject: message.reply, delivery });
    changed.notify();
  });
  pull(broker.bus, { at, batch, expiresMs, inbox });
  return { jobs, ends, until: changed.until, [Symbol.dispose]: () => subscription.unsubscribe() };
}

describe("ensureQueue and listQueues", () => {
  test("a queue is listed with its depth, once, however often it is made, and only in its partition", async () => {
    const at = queue("depth.of a*queue", { level: "high" });
    await Promise.all([ensureQueue(broker.bus, at), ensureQueue(broker.bus, at)]);
    await ensureQueue(broker.bus, at);
    await publish(at, 3);
    const mine = (await listQueues(broker.bus, 0)).filter((found) => found.at.model === at.model);
    expect(mine).toEqual([{ at, pending: 3, ackPending: 0, deliveredSequence: 0 }]);
    expect((await listQueues(broker.bus, 1)).filter((found) => found.at.model === at.model)).toEqual([]);
  });

  test("a queue made after its jobs holds them; levels, lanes and models are kept apart", async () => {
    const at = queue("apart");
    await publish(at, 2);
    await publish(queue("apart", { level: "low" }), 1);
    await publish(queue("apart", { lane: "b" }), 1);
    await publish(queue("apart2"), 1);
    await ensureQueue(broker.bus, at);
    const found = (await listQueues(broker.bus, 0)).find((each) => each.at.model === "apart");
    expect(found).toEqual({ at, pending: 2, ackPending: 0, deliveredSequence: 0 });
  });

  test("more queues than one page of the broker's list", async () => {
    const models = Array.from({ length: 300 }, (_, i) => `paged-${i}`);
    await Promise.all(models.map((model) => ensureQueue(broker.bus, queue(model, { partition: 1 }))));
    const names = (await listQueues(broker.bus, 1)).map((found) => found.at.model);
    expect(names.sort()).toEqual(models.sort());
  });

  test("where there is no such partition, that is an error", async () => {
    const codes = await Promise.all(
      [ensureQueue(broker.bus, queue("x", { partition: 9 })), listQueues(broker.bus, 9)].map((work) =>
        (work as Promise<unknown>).then(
          () => "none",
          (error) => asAppError(error)?.code,
        ),
      ),
    );
    expect(codes).toEqual(["broker_unavailable", "broker_unavailable"]);
  });
});

describe("pull", () => {
  test("no_wait answers with what is there, oldest first, with the count still to come, and closes", async () => {
    const at = queue("no-wait");
    await ensureQueue(broker.bus, at);
    const ids = await publish(at, 5);
    using some = asking(at, 2, null);
    await some.until(() => some.jobs.length === 2);
    expect(some.jobs.map((job) => job.id)).toEqual(ids.slice(0, 2));
    expect(some.jobs.map((job) => [job.delivery.delivered, job.delivery.pending])).toEqual([
      [1, 4],
      [1, 3],
    ]);
    using rest = asking(at, 9, null);
    await rest.until(() => rest.ends.length > 0);
    expect(rest.jobs.map((job) => job.id)).toEqual(ids.slice(2));
    using empty = asking(at, 1, null);
    await empty.until(() => empty.ends.length > 0);
    expect([empty.jobs.length, empty.ends]).toEqual([0, [404]]);
  });

  test("a standing pull gets the next job, and one that expires says so", async () => {
    const at = queue("standing");
    await ensureQueue(broker.bus, at);
    using standing = asking(at, 1, 20_000);
    await broker.bus.flush(5_000);
    const [id = ""] = await publish(at, 2);
    await standing.until(() => standing.jobs.length > 0);
    expect(standing.jobs.map((job) => job.id)).toEqual([id]);
    const quiet = queue("quiet");
    await ensureQueue(broker.bus, quiet);
    using short = asking(quiet, 1, 100);
    await short.until(() => short.ends.length > 0);
    expect(short.ends).toEqual([408]);
  });
});

describe("acks", () => {
  test("a job handed back comes again at once, as its second delivery; an acked one never", async () => {
    const at = queue("back");
    await ensureQueue(broker.bus, at);
    const [id = ""] = await publish(at);
    using first = asking(at, 1, 5_000);
    await first.until(() => first.jobs.length === 1);
    nak(broker.bus, first.jobs[0]?.ackSubject ?? "");
    using second = asking(at, 1, 5_000);
    await second.until(() => second.jobs.length === 1);
    expect(second.jobs[0]).toMatchObject({ id, delivery: { delivered: 2 } });
    working(broker.bus, second.jobs[0]?.ackSubject ?? "");
    ack(broker.bus, second.jobs[0]?.ackSubject ?? "");
    await broker.bus.flush(5_000);
    expect((await listQueues(broker.bus, 0)).find((found) => found.at.model === "back")).toMatchObject({
      pending: 0,
      ackPending: 0,
    });
    using third = asking(at, 1, null);
    await third.until(() => third.ends.length > 0);
    expect(third.jobs).toEqual([]);
  });

  test("one handed back with a delay waits for it, and others pass it meanwhile", async () => {
    const at = queue("delayed");
    await ensureQueue(broker.bus, at);
    const [slow = "", quick = ""] = await publish(at, 2);
    using pulled = asking(at, 3, 20_000);
    await pulled.until(() => pulled.jobs.length >= 1);
    const before = performance.now();
    nak(broker.bus, pulled.jobs[0]?.ackSubject ?? "", 700.4);
    await pulled.until(() => pulled.jobs.length === 3);
    expect(performance.now() - before).toBeGreaterThanOrEqual(690);
    expect(pulled.jobs.map((job) => job.id)).toEqual([slow, quick, slow]);
  });
});

describe("the ends of what waits", () => {
  const job = (n: number, level: "high" | "low") =>
    subjects.job({ ...at, level }, `${"0".repeat(25 - String(n).length)}${n}z`);
  const at = { partition: 0, level: "low", lane: "a", model: "ends" } as const;

  /** Appends a job to a level and resolves to its sequence. */
  const add = async (n: number, level: "high" | "low"): Promise<number> => {
    const subject = job(n, level);
    const stored = await append(broker.bus, {
      subject,
      filter: subject,
      payload: "{}",
      expectedSequence: 0,
      timeoutMs: 5_000,
    });
    return stored.kind === "stored" ? stored.sequence : 0;
  };

  test("the first is exact, the last within a part of the way, whatever came between and behind them", async () => {
    const sequences: number[] = [];
    let n = 0;
    for (const [low, high] of [
      [1, 0],
      [3, 7],
      [40, 3],
      [1, 200],
      [100, 700],
    ] as const) {
      for (let i = 0; i < low; i++) sequences.push(await add(n++, "low"));
      for (let i = 0; i < high; i++) await add(n++, "high");
      const logEnd = await lastSequence(broker.bus, streams.jobs(0));
      for (const delivered of [0, sequences[Math.floor(sequences.length / 2)] ?? 0]) {
        const waiting = sequences.filter((sequence) => sequence > delivered);
        const found = await nextWaiting(broker.bus, at, delivered + 1);
        const [first, last] = [waiting[0], waiting.at(-1)];
        if (first === undefined || last === undefined) {
          expect(found).toBeNull();
          continue;
        }
        expect(found?.sequence).toBe(first);
        const about = await lastWaiting(broker.bus, at, first, logEnd);
        expect(last - about).toBeWithin(0, 1 + Math.ceil((last - first) / 64) + 1);
      }
    }
    expect(await nextWaiting(broker.bus, at, (sequences.at(-1) ?? 0) + 1)).toBeNull();
    // What came after the counts is not looked for.
    const before = sequences.at(-2) ?? 0;
    expect(await lastWaiting(broker.bus, at, before, before)).toBe(before);
  });
});
