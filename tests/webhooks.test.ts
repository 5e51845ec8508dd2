// Webhooks without HTTP and without actors: a real broker, a real database of each kind, real receivers, tasks ended by
// hand, the clock in the test's hand. What the whole service makes of it is in tests/webhooks-service.test.ts.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { streams, subjects } from "../src/bus/subjects.ts";
import { lastSequence } from "../src/bus/topology.ts";
import { purgeBelow } from "../src/bus/trim.ts";
import { type DatabasePlace, type Db, openKept } from "../src/db/db.ts";
import { partitionOf } from "../src/ids.ts";
import { silentLog } from "../src/log.ts";
import { liveCallback } from "../src/tasks/callback.ts";
import { readJob } from "../src/tasks/read-job.ts";
import { parseJobRecord } from "../src/tasks/records.ts";
import { PER_HOST_MAX } from "../src/webhooks/lanes.ts";
import type { AttemptMade } from "../src/webhooks/metrics.ts";
import { type Sender, type SenderOptions, sendHere, sendInThread } from "../src/webhooks/sender.ts";
import { takeIn } from "../src/webhooks/store.ts";
import { createWebhooks, type Webhooks } from "../src/webhooks/webhooks.ts";
import { forEachDatabase } from "./databases.ts";
import { owner, startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";
import { type Answer, type Receiver, startReceiver, verified } from "./receiver.ts";

const HOUR_MS = 3_600_000;
const secrets = ["the operator's newest secret", "the operator's older secret"];
const rules = { allowHosts: ["127.0.0.1"], httpsOnly: false };

forEachDatabase((databases) => {
  let tasks: TestTasks;
  let place: DatabasePlace;
  let db: Db;
  let webhooks: Webhooks;
  const cleanups: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    tasks = await startGatewayTasks({ partitions: 2, taskTtlMs: 24 * HOUR_MS });
    place = await databases.empty();
    db = await openKept(place);
    webhooks = createWebhooks(parts());
  });
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });
  afterAll(async () => {
    await db.close();
    await tasks.stop();
  });

  const receiver = (answer?: Answer, port?: number): Receiver => {
    const started = startReceiver(answer, port);
    cleanups.push(() => started.stop());
    return started;
  };
  const senders = new Set<Sender>();
  const parts = () => ({
    sql: db.sql,
    secrets,
    rules,
    clock: tasks.clock,
    onDue: () => {
      for (const each of senders) each.wake();
    },
  });
  const sender = async (options: Partial<SenderOptions> = {}) => {
    const started = await sendHere({
      bus: tasks.bus,
      sql: db.sql,
      partitions: tasks.partitions,
      secrets,
      retryMs: [5_000, 300_000],
      rules,
      keepMs: 30 * 24 * HOUR_MS,
      clock: tasks.clock,
      random: () => 0,
      log: silentLog,
      ...options,
    });
    senders.add(started);
    cleanups.push(() => {
      senders.delete(started);
      return started.stop();
    });
    return started;
  };
  /** A task that has ended, to be told at `url`. */
  const ended = async (url?: string, result: unknown = {}): Promise<string> => {
    const { taskId } = await tasks.submit(url === undefined ? {} : { callback_url: url });
    await tasks.end(taskId, { result });
    return taskId;
  };
  /** The task's delivery once it stands and `holds` of it. */
  const delivery = async (taskId: string, holds: (state: string, attempts: number) => boolean) => {
    const deadline = performance.now() + 10_000;
    for (;;) {
      const [found] = await webhooks.deliveries(taskId, owner.keyId);
      if (found && holds(found.state, found.attempts.length)) return found;
      if (performance.now() > deadline) throw new Error(`the delivery is ${JSON.stringify(found)}`);
      await tasks.bus.flush(5_000);
    }
  };
  const settled = (taskId: string) => delivery(taskId, (state) => state !== "pending");

  test("an end is told once, signed so that the official library verifies it, with the task as it is read", async () => {
    const got = receiver();
    await sender();
    await ended(); // asks for nothing
    const taskId = await ended(got.url, { answer: 42 });
    await settled(taskId);
    const [first] = got.got;
    const [{ secret } = { secret: "" }] = await webhooks.secrets(owner.keyId);
    const body = first && verified(first, secret);
    expect(body).toMatchObject({ type: "task.completed", data: { task_id: taskId, result: { answer: 42 } } });
    expect(JSON.stringify(body?.data)).toBe((await tasks.tasks.read(taskId, owner)).json);
    expect(got.got.length).toBe(1);
    expect(await db.sql`SELECT task_id FROM deliveries WHERE task_id <> ${taskId}`).toEqual([]);
    expect(() => first && verified({ ...first, body: first.body.replace("42", "43") }, secret)).toThrow();
  });

  // Before the clock of the tests goes forward: threads have their own, and the library checks timestamps.
  test("a secret that a key has rotated signs along with the new one, for a day and for that key alone", async () => {
    const got = receiver();
    await sender();
    const [old] = await webhooks.secrets(owner.keyId);
    const other = await webhooks.secrets("another");
    const rotated = await webhooks.rotate(owner.keyId);
    expect(rotated.map(({ expiresMs }) => expiresMs === null)).toEqual([true, true, false, false]);
    await settled(await ended(got.url));
    const newest = rotated[0];
    const [first] = got.got;
    for (const { secret } of [old ?? { secret: "" }, newest ?? { secret: "" }]) {
      expect(first && verified(first, secret).type).toBe("task.completed");
    }
    expect(await webhooks.secrets("another")).toEqual(other);
    expect(() => first && verified(first, other[0]?.secret ?? "")).toThrow();
    const tomorrow = { ...tasks.clock, now: () => tasks.clock.now() + 24 * HOUR_MS };
    expect(await createWebhooks({ ...parts(), clock: tomorrow }).secrets(owner.keyId)).toEqual(
      rotated.filter(({ expiresMs }) => expiresMs === null),
    );
  });

  test("several gateways on the same rows send each webhook once", async () => {
    const got = receiver();
    const options = { ...place, natsUrl: tasks.natsUrl, partitions: tasks.partitions, logLevel: "silent" };
    const made: AttemptMade[] = [];
    const common = { secrets, retryMs: [5_000], rules, keepMs: HOUR_MS };
    for (const thread of await Promise.all(
      [1, 2, 3].map(() => sendInThread({ ...options, ...common }, (attempt) => made.push(attempt))),
    )) {
      cleanups.push(() => thread.stop());
    }
    const ids = await Promise.all(Array.from({ length: 60 }, () => ended(got.url)));
    for (const taskId of ids) expect((await settled(taskId)).state).toBe("delivered");
    expect(got.got.length).toBe(60);
    expect(new Set(got.got.map(({ id }) => id)).size).toBe(60);
  });

  describe("a receiver that does not take it", () => {
    test("down at first: the attempt is noted, and comes again when it is due and not before", async () => {
      const down = receiver();
      await down.stop();
      const { wake } = await sender();
      const taskId = await ended(down.url);
      const first = await delivery(taskId, (_state, attempts) => attempts === 1);
      expect(first).toMatchObject({ state: "pending", attempts: [{ status: null, error: "fetch_failed" }] });
      expect((first.nextMs ?? 0) - (first.attempts[0]?.atMs ?? 0)).toBeGreaterThanOrEqual(5_000);
      const up = receiver(undefined, Number(new URL(down.url).port));
      wake();
      expect(up.got).toEqual([]);
      tasks.advance(6_000);
      wake();
      expect((await settled(taskId)).attempts).toMatchObject([{ error: "fetch_failed" }, { status: 204, error: null }]);
      expect(up.got.map(({ id }) => id)).toEqual([first.id]);
    });

    test("every attempt has the same webhook-id and body, and a signature of its own time", async () => {
      const got = receiver((_received, n) => new Response(null, { status: n < 3 ? 500 : 200 }));
      const { wake } = await sender();
      const taskId = await ended(got.url);
      for (const made of [1, 2]) {
        await delivery(taskId, (_state, attempts) => attempts === made);
        tasks.advance(6 * 60_000);
        wake();
      }
      await settled(taskId);
      expect(new Set(got.got.map(({ id, body }) => `${id} ${body}`)).size).toBe(1);
      expect(new Set(got.got.map(({ headers }) => headers["webhook-timestamp"])).size).toBe(3);
    });

    test("after the last attempt it has failed, until somebody sends it again by hand", async () => {
      const got = receiver(() => new Response("no", { status: 500 }));
      await sender({ retryMs: [1] });
      const taskId = await ended(got.url);
      const failed = await settled(taskId);
      expect(failed).toMatchObject({ state: "failed", nextMs: null, attempts: [{ status: 500 }, { status: 500 }] });
      got.answer((_received, n) => new Response(null, { status: n === 3 ? 500 : 200 }));
      expect(await webhooks.redeliver(taskId, owner.keyId)).toMatchObject({ state: "pending" });
      // The waits of a redelivery are those of the first round.
      expect((await settled(taskId)).attempts.map(({ status }) => status)).toEqual([500, 500, 500, 200]);
      expect(new Set(got.got.map(({ id }) => id)).size).toBe(1);
    });

    test.each([
      [
        "410 ends it at once",
        () => new Response(null, { status: 410 }),
        { state: "failed", attempts: [{ status: 410 }] },
      ],
      [
        "a redirect is not followed, and is no success",
        () => Response.redirect("http://127.0.0.1:1/", 302),
        { state: "failed", attempts: [{ status: 302 }, { status: 302 }] },
      ],
    ])("%s", async (_name, answer, expected) => {
      const got = receiver(answer);
      await sender({ retryMs: [1] });
      const taskId = await ended(got.url);
      expect(await settled(taskId)).toMatchObject(expected);
    });

    test("Retry-After puts the next attempt off", async () => {
      const got = receiver(() => new Response(null, { status: 429, headers: { "retry-after": "3600" } }));
      await sender();
      const found = await delivery(await ended(got.url), (_state, attempts) => attempts === 1);
      expect((found.nextMs ?? 0) - (found.attempts[0]?.atMs ?? 0)).toBeGreaterThanOrEqual(HOUR_MS);
    });

    test("a name that has come to lead to a private address is never connected to", async () => {
      const got = receiver();
      const resolve = async () => [{ address: "127.0.0.1", family: 4 }];
      await sender({ connect: { resolve } });
      const taskId = await ended("http://rebind.example:8080/hook");
      expect(await settled(taskId)).toMatchObject({ state: "failed", attempts: [{ error: "fetch_blocked" }] });
      expect(got.got).toEqual([]);
    });
  });

  test("a receiver that does not answer holds up its own webhooks, eight at a time, and nobody else's", async () => {
    const release = Promise.withResolvers<void>();
    let atOnce = 0;
    let most = 0;
    const slow = receiver(async () => {
      most = Math.max(most, ++atOnce);
      await release.promise;
      atOnce--;
      return new Response(null, { status: 200 });
    });
    const quick = receiver();
    await sender();
    const waiting = await Promise.all(Array.from({ length: 20 }, () => ended(slow.url)));
    await slow.count(PER_HOST_MAX);
    const others = await Promise.all(Array.from({ length: 20 }, () => ended(quick.url)));
    for (const taskId of others) expect((await settled(taskId)).state).toBe("delivered");
    expect([slow.got.length, most]).toEqual([PER_HOST_MAX, PER_HOST_MAX]);
    release.resolve();
    for (const taskId of waiting) expect((await settled(taskId)).state).toBe("delivered");
    expect([slow.got.length, most]).toEqual([20, PER_HOST_MAX]);
  });

  describe("one gateway after another", () => {
    test("what ended while none ran is told by the next one", async () => {
      const got = receiver();
      const ids = await Promise.all([ended(got.url), ended(got.url)]);
      await sender();
      for (const taskId of ids) expect((await settled(taskId)).state).toBe("delivered");
      expect(got.got.length).toBe(2);
    });

    test("more than is read at once is taken in all the same, in turns", async () => {
      const got = receiver();
      const asked = await ended(got.url);
      for (let i = 0; i < 12; i++) await Promise.all(Array.from({ length: 100 }, () => ended()));
      const last = await Promise.all(Array.from({ length: 30 }, () => ended(got.url)));
      await sender();
      for (const taskId of [asked, ...last]) expect((await settled(taskId)).state).toBe("delivered");
      expect(got.got.length).toBe(31);
    });

    test("what a dead one had in hand is sent by another once its lease has run out", async () => {
      const got = receiver();
      const dead = await sender({ connect: { totalMs: 60_000 } });
      got.answer(() => new Promise(() => {}));
      const taskId = await ended(got.url);
      await got.count(1);
      const [row] = await db.sql`SELECT lease, lease_until_ms FROM deliveries WHERE task_id = ${taskId}`;
      await dead.stop();
      await db.sql`UPDATE deliveries SET lease = ${row.lease}, lease_until_ms = ${row.lease_until_ms}
      WHERE task_id = ${taskId}`; // as a kill would have left it
      got.answer(() => new Response(null, { status: 200 }));
      const { wake } = await sender();
      wake();
      expect(got.got.length).toBe(1);
      tasks.advance(31_000);
      wake();
      expect((await settled(taskId)).attempts.map(({ status }) => status)).toEqual([200]);
      expect(got.got.length).toBe(2);
    });

    test("a sender that stops in an orderly way gives back what it had in hand", async () => {
      const got = receiver(() => new Promise(() => {}));
      const first = await sender();
      const taskId = await ended(got.url);
      await got.count(1);
      await first.stop();
      got.answer(() => new Response(null, { status: 200 }));
      await sender();
      expect((await settled(taskId)).state).toBe("delivered");
    });
  });

  test("a client_request_id that is used for another task later is told again", async () => {
    const got = receiver();
    await sender();
    const first = await tasks.submit({ crid: "again", callback_url: got.url });
    await tasks.end(first.taskId);
    const before = await settled(first.taskId);
    // What the janitor and time do: the logs no longer hold the task, and its name is free.
    const partition = partitionOf(first.taskId, tasks.partitions);
    for (const stream of [streams.results(partition), streams.jobs(partition)]) {
      await purgeBelow(tasks.bus, stream, (await lastSequence(tasks.bus, stream)) + 1);
    }
    tasks.advance(1_000);
    const second = await tasks.submit({ crid: "again", callback_url: got.url });
    expect(second).toEqual({ ...first, status: "PENDING" } as typeof second);
    await tasks.end(second.taskId);
    await got.count(2);
    const after = await settled(second.taskId);
    expect(after.id).not.toBe(before.id);
    expect(got.got.map(({ id }) => id)).toEqual([before.id, after.id]);
  });

  test("progress of a task is thinned out for a receiver, the newest last; nothing of it is kept", async () => {
    const got = receiver();
    await sender();
    const { taskId } = await tasks.submit({ callback_url: got.url, callback_events: ["started", "progress"] });
    const stored = await readJob(tasks.bus, tasks.partitions, taskId, 5_000);
    const job = parseJobRecord(stored?.text ?? "");
    const tell = (event: "started" | "progress", eventNumber: number): void => {
      const at = { attempt: 1, eventNumber, startedAtMs: Date.now(), nowMs: Date.now() };
      const text = liveCallback(
        job,
        event,
        { ...at, actor: { id: "gpu-0", gpu: "0" } },
        { fraction: eventNumber / 100 },
      );
      tasks.bus.publish(subjects.callback(taskId), text ?? "");
    };
    tell("started", 1);
    await got.count(1);
    for (let n = 2; n <= 100; n++) tell("progress", n);
    const told = () => got.got.map(({ body }) => JSON.parse(body) as { type: string; data: { progress: object } });
    await got.until(() => told().some(({ data }) => JSON.stringify(data.progress) === '{"fraction":1}'));
    expect(told()[0]?.type).toBe("task.started");
    expect(got.got.length).toBeLessThan(5);
    expect(new Set(got.got.map(({ id }) => id)).size).toBe(got.got.length);
    await tasks.end(taskId); // nobody asked to be told of it
    expect(await webhooks.deliveries(taskId, owner.keyId)).toEqual([]);
  });

  test("an end that is read again when its task was erased is sent as it is then", async () => {
    const row = {
      id: "a_b_completed",
      taskId: "a",
      keyId: owner.keyId,
      event: "task.completed",
      url: "https://a.example/",
    };
    const cursor = new Map([["RESULTS_9", 1]]);
    await takeIn(db.sql, [{ ...row, body: "whole" }], cursor, 1);
    await db.sql`UPDATE deliveries SET state = 'failed', tries = 3 WHERE delivery_id = ${row.id}`;
    await takeIn(db.sql, [{ ...row, body: "erased" }], new Map([["RESULTS_9", 2]]), 2);
    const [found] = await db.sql`SELECT body, state, created_ms FROM deliveries WHERE delivery_id = ${row.id}`;
    expect({ ...found, created_ms: Number(found.created_ms) }).toEqual({
      body: "erased",
      state: "failed",
      created_ms: 1,
    });
  });

  test("deliveries of another key do not exist", async () => {
    const got = receiver();
    await sender();
    const taskId = await ended(got.url);
    await settled(taskId);
    expect(await webhooks.deliveries(taskId, "another")).toEqual([]);
    expect(await webhooks.redeliver(taskId, "another").catch((error) => error)).toMatchObject({ code: "no_delivery" });
  });

  test("without an operator's secret there are no webhooks, and it is said", async () => {
    const off = createWebhooks({ ...parts(), secrets: [] });
    expect(off.urlProblem("https://example.com/")).toContain("WEBHOOK_SECRET");
    for (const refused of [off.secrets("web"), off.rotate("web"), off.redeliver("a", owner.keyId)]) {
      expect(await refused.catch((error) => error)).toMatchObject({ code: "invalid_request" });
    }
    expect(webhooks.urlProblem("https://example.com/")).toBeNull();
    expect(webhooks.urlProblem("https://localhost/")).not.toBeNull();
  });
});
