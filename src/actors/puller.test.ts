import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import { append } from "../bus/log.ts";
import { ack, ensureQueue, listQueues, nak } from "../bus/queues.ts";
import { type Delivery, type Lane, type Level, parseJob, type QueueAddress, subjects } from "../bus/subjects.ts";
import { type Clock, systemClock } from "../clock.ts";
import { randomTaskId } from "../ids.ts";
import { createPuller, type Puller } from "./puller.ts";

let broker: Broker;
let models = 0;
/** Three levels in each: more queues than a puller waits at. */
const PARTITIONS = 8;
beforeAll(async () => {
  broker = await startBroker({ partitions: PARTITIONS });
});
afterAll(() => broker.stop());

const listAll = async () =>
  (await Promise.all(Array.from({ length: PARTITIONS }, (_, p) => listQueues(broker.bus, p)))).flat();

interface Taken {
  readonly id: string;
  readonly level: Level;
  readonly lane: Lane;
  readonly ackSubject: string;
  readonly delivery: Delivery;
}

/** A model of its own, its queues, and a puller whose jobs are held until the test lets go of them. */
async function start(roomMax: number, clock: Clock = systemClock) {
  const model = `model-${models++}`;
  const taken: Taken[] = [];
  const held = new Map<string, Taken>();
  let roomNow = roomMax;
  let mostHeld = 0;
  const changed = signal();
  const queue = (level: Level = "normal", partition = 0, lane: Lane = "a"): QueueAddress => ({
    partition,
    level,
    lane,
    model,
  });
  const puller: Puller = createPuller({
    bus: broker.bus,
    model,
    clock,
    room: () => roomNow - held.size,
    take: (message, delivery) => {
      const at = parseJob(message.subject);
      if (!at) throw new Error("not a job");
      const job = { id: at.taskId, level: at.level, lane: at.lane, ackSubject: message.reply, delivery };
      taken.push(job);
      held.set(job.id, job);
      mostHeld = Math.max(mostHeld, held.size);
      changed.notify();
    },
  });
  const publish = async (count: number, at = queue()): Promise<string[]> => {
    await ensureQueue(broker.bus, at);
    const ids = Array.from({ length: count }, () => randomTaskId(Date.now()));
    await Promise.all(
      ids.map((id) => {
        const filter = subjects.anyJob(at.partition, id);
        const record = { subject: subjects.job(at, id), filter, payload: "{}", expectedSequence: 0, timeoutMs: 5_000 };
        return append(broker.bus, record);
      }),
    );
    return ids;
  };
  return {
    taken,
    held,
    puller,
    queue,
    publish,
    until: changed.until,
    mostHeld: () => mostHeld,
    setRoom(room: number) {
      roomNow = room;
      puller.pump();
    },
    /** Acks all that is held, and asks for more, until `count` jobs were taken in all. */
    async work(count: number): Promise<void> {
      while (taken.length < count || held.size > 0) {
        await changed.until(() => held.size > 0);
        for (const job of held.values()) ack(broker.bus, job.ackSubject);
        held.clear();
        puller.pump();
      }
    },
    async learn(): Promise<void> {
      puller.learn(await listAll());
    },
    async depths() {
      await broker.bus.flush(5_000);
      const found = await listAll();
      return found.filter(({ at }) => at.model === model).map(({ pending, ackPending }) => ({ pending, ackPending }));
    },
    async [Symbol.asyncDispose]() {
      await puller.stop();
    },
  };
}

describe("a puller", () => {
  test("takes all there is, each job once, and never more than there is room for", async () => {
    await using all = await start(3);
    const ids = await all.publish(100);
    all.puller.ring(all.queue(), 100);
    await all.work(100);
    expect(all.taken.map((job) => job.id).sort()).toEqual(ids.sort());
    expect(all.taken.every((job) => job.delivery.delivered === 1)).toBe(true);
    expect(all.mostHeld()).toBe(3);
    expect(await all.depths()).toEqual([{ pending: 0, ackPending: 0 }]);
  });

  test.each([
    [1, 36, 44],
    [20, 32, 52], // in batches; a lane is asked for alone while the other's jobs are on their way, for a few
  ])("with room for %d: four jobs of lane a for one of b where both wait", async (room, min, max) => {
    await using all = await start(0);
    const b = all.queue("normal", 0, "b");
    await all.publish(240);
    await all.publish(240, b);
    all.puller.ring(all.queue(), 240);
    all.puller.ring(b, 240);
    all.setRoom(room);
    await all.work(480);
    const early = all.taken.slice(0, 200).filter(({ lane }) => lane === "b");
    expect(early.length).toBeGreaterThanOrEqual(min);
    expect(early.length).toBeLessThanOrEqual(max);
    expect(all.taken.filter(({ lane }) => lane === "b").length).toBe(240);
  });

  test("gets a job by its standing pull alone, without a bell", async () => {
    await using all = await start(1);
    await ensureQueue(broker.bus, all.queue());
    await all.learn();
    await broker.bus.flush(5_000);
    const [id] = await all.publish(1);
    await all.until(() => all.taken.length === 1);
    expect(all.taken[0]?.id).toBe(id ?? "");
  });

  test("finds by a look what no bell told of: a new queue, and jobs of one that was quiet", async () => {
    await using all = await start(2);
    await all.publish(2, all.queue("low", 1));
    expect(all.taken).toEqual([]);
    await all.learn();
    await all.until(() => all.taken.length === 2);
    expect(all.taken.every((job) => job.level === "low")).toBe(true);
  });

  test("with no room it asks for nothing, and what comes all the same goes back at once", async () => {
    await using all = await start(2);
    await ensureQueue(broker.bus, all.queue());
    await ensureQueue(broker.bus, all.queue("high", 1));
    await all.learn(); // a standing pull at each queue
    await broker.bus.flush(5_000);
    // Two queues deliver at once to one that wants a single job: over-delivery.
    all.setRoom(1);
    await Promise.all([all.publish(1), all.publish(1, all.queue("high", 1))]);
    await all.until(() => all.taken.length === 1);
    expect(all.mostHeld()).toBe(1);
    await all.publish(20);
    all.puller.ring(all.queue(), 20);
    await all.learn();
    await broker.bus.flush(5_000);
    const waiting = (await all.depths()).reduce((sum, { pending, ackPending }) => sum + pending + ackPending, 0);
    expect(waiting).toBe(22);
    expect(all.taken).toHaveLength(1);
    // Everything comes when there is room: nothing was lost, nothing acked.
    all.setRoom(4);
    await all.learn();
    const looking = setInterval(() => void all.learn(), 50);
    await all.work(22);
    clearInterval(looking);
    expect(new Set(all.taken.map((job) => job.id)).size).toBe(22);
  });

  test("after its room went to nothing it hoards none of the jobs that come", async () => {
    await using one = await start(1);
    await ensureQueue(broker.bus, one.queue());
    await one.learn();
    await broker.bus.flush(5_000);
    one.setRoom(0);
    await broker.bus.flush(5_000);
    await one.publish(5);
    one.puller.ring(one.queue(), 5);
    await broker.bus.flush(5_000);
    // An actor beside it takes them all at once.
    const jobs: Delivery[] = [];
    const changed = signal();
    const other = createPuller({
      bus: broker.bus,
      model: one.queue().model,
      clock: systemClock,
      room: () => 10 - jobs.length,
      take: (message, delivery) => {
        ack(broker.bus, message.reply);
        jobs.push(delivery);
        changed.notify();
      },
    });
    other.ring(one.queue(), 5);
    await changed.until(() => jobs.length === 5);
    expect(one.taken).toEqual([]);
    await other.stop();
  });

  test("high comes first: before all that waits below it", async () => {
    await using all = await start(0, { now: Date.now, monotonicMs: () => 60_000 + performance.now() });
    await all.publish(20);
    await all.publish(20, all.queue("low"));
    await all.publish(20, all.queue("high", 1));
    // The broker's count of what waits follows the PubAck, it does not come before it.
    for (let waiting = 0; waiting < 60; ) waiting = (await all.depths()).reduce((sum, { pending }) => sum + pending, 0);
    await all.learn();
    all.setRoom(1);
    await all.work(60);
    const levels = all.taken.map((job) => job.level);
    expect(levels.slice(0, 20).every((level) => level === "high")).toBe(true);
    expect(levels.slice(20, 40).every((level) => level === "normal")).toBe(true);
    expect(levels.slice(40).every((level) => level === "low")).toBe(true);
  });

  test("a bell for high is heard in the middle of a backlog", async () => {
    await using all = await start(1);
    await all.publish(50);
    all.puller.ring(all.queue(), 50);
    await all.until(() => all.taken.length === 1);
    const [urgent = ""] = await all.publish(1, all.queue("high"));
    all.puller.ring(all.queue("high"), 1);
    await all.work(51);
    // The one in hand, and one that was on its way.
    expect(all.taken.findIndex((job) => job.id === urgent)).toBeLessThanOrEqual(2);
  });

  test("a job handed back comes again, though nothing rings for it", async () => {
    await using all = await start(1);
    await all.publish(1);
    await all.learn();
    await all.until(() => all.taken.length === 1);
    nak(broker.bus, all.taken[0]?.ackSubject ?? "");
    all.held.clear();
    await broker.bus.flush(5_000);
    await all.learn();
    await all.until(() => all.taken.length === 2);
    expect(all.taken.map((job) => job.delivery.delivered)).toEqual([1, 2]);
    await all.work(2);
  });

  test("a job handed back is found at a queue where no pull stands", async () => {
    await using all = await start(1);
    const [lost = ""] = await all.publish(1, all.queue("low", 0));
    await all.learn();
    await all.until(() => all.taken.length === 1);
    const given = all.taken[0]?.ackSubject ?? "";
    all.held.clear();
    all.puller.pump();
    // Work comes from so many other queues that the puller waits at those.
    let count = 1;
    for (const partition of [1, 2, 3, 4, 5, 6, 7]) {
      for (const level of ["high", "normal", "low"] as const) {
        await all.publish(1, all.queue(level, partition));
        all.puller.ring(all.queue(level, partition), 1);
        await all.until(() => all.taken.length === count + 1);
        count++;
        for (const job of all.held.values()) ack(broker.bus, job.ackSubject);
        all.held.clear();
        all.puller.pump();
      }
    }
    nak(broker.bus, given);
    await broker.bus.flush(5_000);
    await all.learn();
    await all.until(() => all.taken.length === count + 1);
    expect(all.taken.at(-1)?.id).toBe(lost);
    await all.work(count + 1);
  });

  test("bells that lie, before the job and without one, lose nothing and leave no spin", async () => {
    await using all = await start(2);
    await ensureQueue(broker.bus, all.queue());
    all.puller.ring(all.queue(), 1_000);
    all.puller.ring(all.queue("low", 1), 3); // a queue that is not there
    await broker.bus.flush(5_000);
    await all.publish(3);
    await all.learn();
    const looking = setInterval(() => void all.learn(), 50);
    await all.work(3);
    clearInterval(looking);
    expect(all.taken).toHaveLength(3);
  });

  test("stop leaves nothing asked for: later jobs stay in the queue, and no subscription", async () => {
    const before = await broker.subscriptions();
    const all = await start(4);
    await all.publish(2);
    await all.learn();
    await all.until(() => all.taken.length === 2);
    await all.puller.stop();
    expect(await broker.subscriptions()).toBe(before);
    await all.publish(3);
    all.puller.ring(all.queue(), 3);
    await all.learn();
    expect(all.taken).toHaveLength(2);
    expect(await all.depths()).toEqual([{ pending: 3, ackPending: 2 }]);
  });

  test("after kill -9 of the broker an idle one waits again: the old pulls are forgotten", async () => {
    await using all = await start(2);
    await ensureQueue(broker.bus, all.queue());
    await all.learn();
    await broker.bus.flush(5_000);
    await broker.kill();
    await broker.restart();
    all.puller.reset();
    await all.learn();
    await broker.bus.flush(5_000);
    await all.publish(1);
    await all.until(() => all.taken.length === 1);
    await all.work(1);
  }, 40_000);

  test("goes on after kill -9 of the broker, with nothing lost", async () => {
    await using all = await start(2);
    const ids = await all.publish(6);
    await all.learn();
    await all.until(() => all.taken.length === 2);
    await broker.kill();
    all.held.clear();
    await broker.restart();
    all.puller.reset();
    const looking = setInterval(() => void all.learn().catch(() => {}), 50);
    const done = new Set<string>();
    while (done.size < 6) {
      await all.until(() => all.held.size > 0);
      for (const job of all.held.values()) {
        ack(broker.bus, job.ackSubject);
        done.add(job.id);
      }
      all.held.clear();
      all.puller.pump();
      // The two that were in hand come again when their leases lapse: hand them back as a supervisor would.
      for (const job of all.taken.slice(0, 2)) if (!done.has(job.id)) nak(broker.bus, job.ackSubject);
    }
    clearInterval(looking);
    expect([...done].sort()).toEqual(ids.sort());
  }, 60_000);
});
