import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { forEachDatabase } from "../../tests/databases.ts";
import { owner, startGatewayTasks, type TestTasks } from "../../tests/gateway-tasks.ts";
import { subjects } from "../bus/subjects.ts";
import { asAppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import { type Janitor, startJanitor } from "./janitor.ts";
import { markTrimmed } from "./store.ts";

const TTL_MS = 3_600_000;
const gone = { job: false, result: false };
const whole = { job: true, result: true };
forEachDatabase((databases) => {
  let all: TestTasks;
  let janitor: Janitor;

  beforeAll(async () => {
    all = await startGatewayTasks({ partitions: 2, taskTtlMs: TTL_MS, ...(await databases.empty()) });
    const { bus, sql, partitions, clock } = all;
    const options = { bus, sql, partitions, clock, taskTtlMs: TTL_MS, historyTtlMs: 10 * TTL_MS, log: silentLog };
    janitor = startJanitor(options);
  });
  afterAll(async () => {
    await janitor.stop();
    await all.stop();
  });
  // Each test starts with logs in which nothing is old.
  beforeEach(async () => {
    for (const p of [0, 1]) await all.bus.request(`$JS.API.STREAM.PURGE.JOBS_${p}`, "", { timeoutMs: 5_000 });
  });

  const statusOf = async (taskId: string): Promise<string> => (await all.tasks.read(taskId, owner)).status;
  async function endedTask(fields: { crid?: string } = {}): Promise<string> {
    const { taskId } = await all.submit(fields);
    await all.end(taskId);
    await all.projected(taskId);
    return taskId;
  }

  describe("a round of the janitor", () => {
    test("takes what ended TASK_TTL ago out of both logs, and leaves what is younger and what has not ended", async () => {
      const old = await Promise.all(Array.from({ length: 20 }, () => endedTask()));
      const { taskId: waiting } = await all.submit();
      await janitor.sweep();
      expect(await Promise.all(old.map(all.inLogs))).toEqual(old.map(() => whole));
      all.advance(TTL_MS + 1_000);
      await janitor.sweep();
      expect(await Promise.all(old.map(all.inLogs))).toEqual(old.map(() => gone));
      expect(await all.inLogs(waiting)).toEqual({ job: true, result: false });
      expect(await statusOf(waiting)).toBe("PENDING");
      // History is read as before.
      expect(await Promise.all(old.map(statusOf))).toEqual(old.map(() => "SUCCESS"));
    });

    test("a job that was cancelled while it waited for its time leaves the logs with its task", async () => {
      const request = { model: "echo", input: {}, delay_ms: 10 * TTL_MS, client_request_id: "waited" };
      const { taskId } = await all.tasks.accept(request, owner, null);
      await all.tasks.cancel(taskId, owner);
      await all.projected(taskId);
      expect(await all.inLogs(taskId)).toEqual(whole);
      all.advance(TTL_MS + 1_000);
      await janitor.sweep();
      expect(await all.inLogs(taskId)).toEqual(gone);
      expect((await all.tasks.accept(request, owner, null)).replayed).toBe(false);
    });

    test("one old task that waits holds nobody else's request id", async () => {
      const { taskId: waiting } = await all.submit();
      const behind = await Promise.all(Array.from({ length: 40 }, (_, i) => endedTask({ crid: `behind-${i}` })));
      const { taskId: later } = await all.submit();
      all.advance(TTL_MS + 1_000);
      await janitor.sweep();
      expect(await Promise.all(behind.map(all.inLogs))).toEqual(behind.map(() => gone));
      for (const taskId of [waiting, later]) expect(await all.inLogs(taskId)).toEqual({ job: true, result: false });
      expect(await statusOf(behind[0] ?? "")).toBe("SUCCESS");
      expect((await all.submit({ crid: "behind-0" })).replayed).toBe(false);
    });

    test("a job stays while its result stands, however long ago its actor says that it ended", async () => {
      const { taskId } = await all.submit({ crid: "written-late" });
      const askedAtMs = Date.now();
      while (Date.now() < askedAtMs + 20) await all.bus.flush(5_000);
      // The actor could not write the end down for a while, or its clock is behind.
      await all.end(taskId, { timeMs: askedAtMs + 5 });
      await all.projected(taskId);
      // Older than TASK_TTL is now what was there ten milliseconds after the job: the end as its actor says it, but not
      // the record of it.
      all.advance(askedAtMs + 10 + TTL_MS - all.clock.now());
      await janitor.sweep();
      expect(await all.inLogs(taskId)).toEqual(whole);
      expect((await all.submit({ crid: "written-late" })).replayed).toBe(true);
    });

    test("more than it reads at once", async () => {
      const ids: string[] = [];
      for (let i = 0; i < 12; i++) {
        const batch = await Promise.all(Array.from({ length: 200 }, () => all.submit()));
        await Promise.all(batch.map(({ taskId }) => all.end(taskId)));
        ids.push(...batch.map(({ taskId }) => taskId));
      }
      await Promise.all(ids.slice(-400).map(all.projected));
      all.advance(TTL_MS + 1_000);
      await janitor.sweep();
      const kept = (await Promise.all(ids.map(all.inLogs))).filter((each) => each.job || each.result);
      expect(kept).toEqual([]);
    }, 30_000);

    test("rows stay for HISTORY_TTL, then the task is unknown", async () => {
      const taskId = await endedTask();
      all.advance(TTL_MS + 1_000);
      await janitor.sweep();
      expect(await statusOf(taskId)).toBe("SUCCESS");
      all.advance(10 * TTL_MS);
      await janitor.sweep();
      const error = await all.tasks.read(taskId, owner).catch(asAppError);
      expect(error).toMatchObject({ code: "task_not_found" });
    });
  });

  describe("a client_request_id", () => {
    test("is free again afterwards: the new task shows nothing of the old one, before it ends and after", async () => {
      const first = await all.submit({ crid: "again" });
      await all.end(first.taskId, { result: { text: "old" } });
      await all.projected(first.taskId);
      expect((await all.submit({ crid: "again" })).replayed).toBe(true);
      all.advance(TTL_MS + 1_000);
      await janitor.sweep();
      const second = await all.submit({ crid: "again" });
      expect(second).toMatchObject({ taskId: first.taskId, replayed: false });
      expect(await statusOf(first.taskId)).toBe("PENDING");
      expect(await all.tasks.result(first.taskId, owner)).toBeNull();
      expect((await all.submit({ crid: "again" })).replayed).toBe(true);
      expect(await all.end(first.taskId, { status: "FAILURE" })).toMatchObject({ kind: "won" });
      expect((await all.tasks.wait(first.taskId, owner, 10_000, AbortSignal.timeout(10_000))).status).toBe("FAILURE");
      await all.projected(first.taskId);
      expect(await statusOf(first.taskId)).toBe("FAILURE");
    });

    test("while the janitor is at work the ended task is what is read", async () => {
      const taskId = await endedTask({ crid: "between" });
      all.advance(TTL_MS + 1_000);
      // Between the mark and the purge: the result is gone, the job still stands.
      for (const p of [0, 1]) await all.bus.request(`$JS.API.STREAM.PURGE.RESULTS_${p}`, "", { timeoutMs: 5_000 });
      await markTrimmed(all.sql, [taskId]);
      expect(await all.inLogs(taskId)).toEqual({ job: true, result: false });
      expect(await statusOf(taskId)).toBe("SUCCESS");
      expect((await all.submit({ crid: "between" })).replayed).toBe(true);
    });
  });

  test("above 80% of a log new tasks are refused, and taken again when there is room", async () => {
    const manager = await jetstreamManager(all.bus.connection);
    const until = async (full: boolean): Promise<void> => {
      for (const deadline = performance.now() + 15_000; janitor.isFull() !== full; ) {
        if (performance.now() > deadline) throw new Error("not in time");
        await all.bus.flush(5_000);
      }
    };
    expect(janitor.isFull()).toBe(false);
    await all.submit();
    const before = (await manager.streams.info("JOBS_0")).config.max_bytes;
    for (const p of [0, 1]) await manager.streams.update(`JOBS_${p}`, { max_bytes: 300 });
    await until(true);
    for (const p of [0, 1]) await manager.streams.update(`JOBS_${p}`, { max_bytes: before });
    await until(false);
  }, 40_000);
});

test("with a TASK_TTL of a second, in real time: the second task of an id is neither lost nor takes over events", async () => {
  const quick = await startGatewayTasks({ partitions: 1, taskTtlMs: 1_000 });
  try {
    const { taskId } = await quick.submit({ crid: "quick" });
    const event = { v: 1, attempt: 1, n: 1, crashes: 0, event: "progress", data: {} };
    quick.bus.publish(subjects.events(taskId), JSON.stringify(event));
    await quick.end(taskId);
    const again = async (): Promise<{ replayed: boolean }> => quick.submit({ crid: "quick" });
    while ((await again()).replayed) await quick.bus.flush(5_000);
    const acceptedAtMs = Date.now();
    // For longer than it is kept once it has ended; the gateway's own janitor comes by four times a second.
    while (Date.now() < acceptedAtMs + 2_500) {
      expect((await quick.tasks.read(taskId, owner)).status).toBe("PENDING");
      expect(await quick.inLogs(taskId)).toEqual({ job: true, result: false });
    }
    expect(await quick.end(taskId, { status: "FAILURE" })).toMatchObject({ kind: "won" });
  } finally {
    await quick.stop();
  }
}, 30_000);
