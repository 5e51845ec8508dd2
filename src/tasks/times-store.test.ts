// The queries on the times of tasks and on schedules, on both databases.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { openRow } from "../../tests/task-row.ts";
import { type Db, openKept, openReadModel } from "../db/db.ts";
import {
  advanceSchedules,
  deleteSchedule,
  dueSchedules,
  findSchedule,
  insertSchedule,
  listSchedules,
  nextScheduleMs,
  type ScheduleRow,
  stillDue,
} from "./schedule-store.ts";
import { dueTasks, markBegun, markMoved, nextDueMs, overdueTasks, saveBatch, type TaskRow } from "./store.ts";

const task = (id: string, fields: Partial<TaskRow> = {}): TaskRow => openRow(id, { startByMs: 90_000, ...fields });
const ended = { finishedMs: 5_000, status: "SUCCESS", eventId: "1.2", data: "{}", resultSequence: 9 } as const;
const marked = { cancelSequence: 3, cancelRequestedMs: 2_000, dueMs: null, startByMs: null };

const schedule = (id: string, fields: Partial<ScheduleRow> = {}): ScheduleRow => ({
  id,
  keyId: "k",
  name: null,
  cron: "@hourly",
  timezone: "UTC",
  task: '{"model":"echo","input":{"text":"é 🚂"}}',
  createdMs: 1_000,
  nextMs: 3_600_000,
  lastMs: null,
  lastTaskId: null,
  lastError: null,
  ...fields,
});

forEachDatabase((databases) => {
  let tasks: Db;
  let kept: Db;
  beforeEach(async () => {
    tasks = await openReadModel(await databases.empty());
    kept = await openKept(await databases.empty());
  });
  afterEach(async () => {
    await Promise.all([tasks.close(), kept.close()]);
  });
  const save = (...rows: TaskRow[]) => saveBatch(tasks.sql, rows, {});
  const overdue = async (beforeMs: number) =>
    (await overdueTasks(tasks.sql, beforeMs, null, 10)).map(({ taskId }) => taskId);

  test("a task is due until it has moved, ended, or is being cancelled", async () => {
    await save(task("b", { dueMs: 2_000 }), task("a", { dueMs: 3_000 }), task("c", { dueMs: 9_000 }), task("now"));
    await save(task("d", { dueMs: 1_000 }), task("e", { dueMs: 1_000 }), task("f", { dueMs: 1_000 }));
    await save(task("d", { dueMs: null }), task("e", { ...ended, dueMs: null }), task("f", marked));
    expect(await dueTasks(tasks.sql, 3_000, 10)).toEqual(["b", "a"]);
    expect(await dueTasks(tasks.sql, 3_000, 1)).toEqual(["b"]);
    expect(await nextDueMs(tasks.sql)).toBe(2_000);
    await markMoved(tasks.sql, ["b", "a"]);
    await save(task("f", { dueMs: 1_000 })); // its job is heard after its cancel
    expect([await dueTasks(tasks.sql, 8_000, 10), await nextDueMs(tasks.sql)]).toEqual([[], 9_000]);
  });

  test("overdue is what should have begun and has neither begun nor ended, page by page", async () => {
    await save(...["c", "a", "b"].map((id) => task(id, { startByMs: 50 })), task("d", { startByMs: 60 }), task("e"));
    await save(task("f", { startByMs: 10, ...ended }), task("g", { startByMs: 10 }), task("h", { startByMs: 10 }));
    await save(task("g", { ...ended, startByMs: null }), task("h", marked));
    expect(await overdue(61)).toEqual(["a", "b", "c", "d"]);
    expect(await overdue(60)).toEqual(["a", "b", "c"]);
    const first = await overdueTasks(tasks.sql, 61, null, 2);
    expect(first.at(-1)).toEqual({ taskId: "b", keyId: "k", startByMs: 50 });
    const second = await overdueTasks(tasks.sql, 61, first.at(-1) ?? null, 2);
    expect(second.map(({ taskId }) => taskId)).toEqual(["c", "d"]);
    await markBegun(tasks.sql, ["a", "c"]);
    expect(await overdue(61)).toEqual(["b", "d"]);
  });

  test("schedules come back as they were written, to their key alone, and so many of them", async () => {
    expect(await insertSchedule(kept.sql, schedule("a", { name: "nightly" }), 2)).toBe(true);
    expect(await insertSchedule(kept.sql, schedule("b"), 2)).toBe(true);
    expect(await insertSchedule(kept.sql, schedule("c"), 2)).toBe(false);
    expect(await insertSchedule(kept.sql, schedule("d", { keyId: "other" }), 2)).toBe(true);
    expect(await findSchedule(kept.sql, "k", "a")).toEqual(schedule("a", { name: "nightly" }));
    expect(await findSchedule(kept.sql, "other", "a")).toBeNull();
    expect((await listSchedules(kept.sql, "k", null, 10)).map(({ id }) => id)).toEqual(["b", "a"]);
    expect((await listSchedules(kept.sql, "k", "b", 10)).map(({ id }) => id)).toEqual(["a"]);
    expect(await deleteSchedule(kept.sql, "other", "a")).toBe(false);
    expect([await deleteSchedule(kept.sql, "k", "a"), await deleteSchedule(kept.sql, "k", "a")]).toEqual([true, false]);
  });

  test("an occurrence is due until one has gone on; the second changes nothing", async () => {
    for (const id of ["b", "a"]) await insertSchedule(kept.sql, schedule(id), 9);
    await insertSchedule(kept.sql, schedule("c", { nextMs: 7_200_000 }), 9);
    const due = await dueSchedules(kept.sql, 3_600_000, null, 10);
    expect(due.map(({ id }) => id)).toEqual(["a", "b"]);
    expect((await dueSchedules(kept.sql, 3_600_000, due[0] ?? null, 10)).map(({ id }) => id)).toEqual(["b"]);
    const [a = schedule("")] = due;
    await advanceSchedules(kept.sql, [{ schedule: a, nextMs: 10_800_000, taskId: "t", error: null }]);
    await advanceSchedules(kept.sql, [{ schedule: a, nextMs: 1, taskId: "other", error: "internal" }]);
    const gone = { nextMs: 10_800_000, lastMs: 3_600_000, lastTaskId: "t", lastError: null };
    expect(await findSchedule(kept.sql, "k", "a")).toMatchObject(gone);
    expect([await stillDue(kept.sql, a), await stillDue(kept.sql, schedule("b"))]).toEqual([false, true]);
    expect(await nextScheduleMs(kept.sql)).toBe(3_600_000);
  });
});
