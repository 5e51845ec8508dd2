// Cron schedules on a real broker and the real database of what is kept: two gateways, a clock of our own, no actors.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { streams } from "../src/bus/subjects.ts";
import { readOldest } from "../src/bus/trim.ts";
import { type Db, openKept } from "../src/db/db.ts";
import { AppError } from "../src/errors.ts";
import { derivedTaskId } from "../src/ids.ts";
import { silentLog } from "../src/log.ts";
import { openSchedules, SCHEDULES_PER_KEY_MAX } from "../src/tasks/schedules.ts";
import type { Tasks } from "../src/tasks/tasks.ts";
import { forEachDatabase } from "./databases.ts";
import { owner, startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";

const MINUTE_MS = 60_000;
const hourly = { cron: "@hourly", timezone: "Europe/Berlin", task: { model: "echo", input: { n: 1 } } };

type Open = ReturnType<typeof openSchedules>;
forEachDatabase((databases) => {
  let gateway: TestTasks;
  let kept: Db;
  const keys = new Set<string>();
  const opened: Open[] = [];

  beforeEach(async () => {
    gateway = await startGatewayTasks({ partitions: 1, taskTtlMs: 100 * 24 * 60 * MINUTE_MS });
    kept = await openKept(await databases.empty());
    keys.add(owner.keyId);
  });
  afterEach(async () => {
    for (const each of opened.splice(0)) await each.stop();
    await kept.close();
    await gateway.stop();
  });

  function open(accept: Tasks["accept"] = gateway.tasks.accept): Open {
    const isKey = (keyId: string): boolean => keys.has(keyId);
    const { clock } = gateway;
    const callbackProblem = (): string => "not here";
    const schedules = openSchedules({ sql: kept.sql, accept, isKey, callbackProblem, clock, log: silentLog });
    opened.push(schedules);
    return schedules;
  }

  const stopAll = () => Promise.all(opened.splice(0).map((each) => each.stop()));
  const jobs = async (): Promise<number> => (await readOldest(gateway.bus, streams.jobs(0), 1, 1_000)).length;

  /** The schedule as soon as it holds; the rounds look once a second. */
  async function until(id: string, holds: (row: Awaited<ReturnType<Open["get"]>>) => boolean) {
    const deadline = performance.now() + 10_000;
    for (;;) {
      const row = await (opened[0] as Open).get(id, owner);
      if (holds(row)) return row;
      if (performance.now() > deadline) throw new Error(`not yet: ${JSON.stringify(row)}`);
      await gateway.bus.flush(5_000);
    }
  }

  test("an occurrence is one task, of the schedule's key, however many gateways fire it", async () => {
    const [schedules] = [open(), open(), open((await gateway.join()).accept)];
    const { id, nextMs } = await schedules.create(hourly, owner);
    gateway.advance(60 * MINUTE_MS);
    const row = await until(id, ({ lastMs }) => lastMs !== null);
    const crid = `cron:${id}:${new Date(nextMs ?? 0).toISOString()}`;
    expect(row).toMatchObject({ lastMs: nextMs, lastTaskId: derivedTaskId(owner.keyId, crid), lastError: null });
    expect(row.nextMs).toBe((nextMs ?? 0) + 60 * MINUTE_MS);
    expect(await gateway.tasks.read(row.lastTaskId ?? "", owner)).toMatchObject({ status: "PENDING" });
    await stopAll();
    expect(await jobs()).toBe(1);
  });

  test("what was missed while all were down fires once, and survives a crash between the task and its row", async () => {
    const first = open();
    const { id, nextMs } = await first.create({ ...hourly, cron: "* * * * *" }, owner);
    await stopAll();
    gateway.advance(600 * MINUTE_MS);
    // A gateway that was killed after the task was kept, before the schedule went on.
    const dying = open(async (...request) => {
      await gateway.tasks.accept(...request);
      throw new AppError("broker_unavailable", "killed");
    });
    while ((await jobs()) === 0) await gateway.bus.flush(5_000);
    await dying.stop();
    opened.splice(0);
    open();
    const row = await until(id, ({ lastMs }) => lastMs !== null);
    expect(row).toMatchObject({ lastMs: nextMs });
    expect(row.nextMs).toBeGreaterThan(gateway.clock.now());
    await stopAll();
    expect(await jobs()).toBe(1);
  });

  test("a deleted one fires no more, nor does one of a revoked key", async () => {
    const schedules = open();
    const [gone, orphan, alive] = [
      await schedules.create(hourly, owner),
      await schedules.create(hourly, { keyId: "revoked" }),
      await schedules.create(hourly, owner),
    ];
    await schedules.remove(gone.id, owner);
    gateway.advance(60 * MINUTE_MS);
    await until(alive.id, ({ lastMs }) => lastMs !== null);
    expect(await jobs()).toBe(1);
    const passed = await schedules.get(orphan.id, { keyId: "revoked" });
    expect(passed).toMatchObject({ lastMs: null, lastTaskId: null, lastError: "unauthorized" });
    expect(passed.nextMs).toBeGreaterThan(gateway.clock.now());
  });

  test("what may succeed later is tried until it does; what cannot is passed over, and said", async () => {
    const failures: ("queue_full" | "idempotency_mismatch")[] = ["queue_full", "idempotency_mismatch"];
    const schedules = open(async (...request) => {
      const code = failures.shift();
      if (code) throw new AppError(code, "no");
      return gateway.tasks.accept(...request);
    });
    const { id, nextMs } = await schedules.create(hourly, owner);
    gateway.advance(60 * MINUTE_MS);
    const refused = await until(id, ({ lastError }) => lastError !== null);
    expect(refused).toMatchObject({ lastError: "idempotency_mismatch", lastMs: null });
    expect(refused.nextMs).toBeGreaterThan(nextMs ?? 0);
    gateway.advance(60 * MINUTE_MS);
    expect(await until(id, ({ lastMs }) => lastMs !== null)).toMatchObject({ lastError: null });
  });

  test("a key has so many schedules and no more, and its own alone", async () => {
    const schedules = open();
    const last = { id: "" };
    for (let n = 0; n < SCHEDULES_PER_KEY_MAX; n++) {
      gateway.advance(1); // ids of one millisecond have no order
      last.id = (await schedules.create(hourly, owner)).id;
    }
    await expect(schedules.create(hourly, owner)).rejects.toMatchObject({ code: "too_many_schedules" });
    const other = { keyId: "other" };
    const theirs = await schedules.create(hourly, other);
    expect((await schedules.list(other, null, 10)).map(({ id }) => id)).toEqual([theirs.id]);
    await expect(schedules.get(last.id, other)).rejects.toMatchObject({ code: "schedule_not_found" });
    await expect(schedules.remove(last.id, other)).rejects.toMatchObject({ code: "schedule_not_found" });
    expect((await schedules.list(owner, null, 1))[0]?.id).toBe(last.id);
  });
});
