import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { forEachDatabase, inNumbers } from "../../tests/databases.ts";
import { openRow } from "../../tests/task-row.ts";
import { openReadModel } from "../db/db.ts";
import {
  deleteHistory,
  endedBelow,
  findEnded,
  loadCursors,
  markTrimmed,
  openCancels,
  saveBatch,
  type TaskRow,
} from "./store.ts";

const open = (id: string, fields: Partial<TaskRow> = {}): TaskRow =>
  openRow(id, { metadata: '{"a":"ü \\"quoted\\" \u0001"}', ...fields });
const ended = (id: string, fields: Partial<TaskRow> = {}): TaskRow =>
  open(id, {
    status: "SUCCESS",
    attempt: 1,
    finishedMs: 2_000,
    eventId: "1.2",
    data: "{}",
    resultSequence: 10,
    ...fields,
  });
forEachDatabase((databases) => {
  let db: Awaited<ReturnType<typeof openReadModel>>;
  beforeEach(async () => {
    db = await openReadModel(await databases.empty());
  });
  afterEach(() => db.close());

  const save = (...rows: TaskRow[]) => saveBatch(db.sql, rows, {});
  const rowOf = async (id: string) => inNumbers(await db.sql`SELECT * FROM tasks WHERE task_id = ${id}`)[0];

  describe("rows", () => {
    test("come back as they were written", async () => {
      await save(open("a"), ended("b", { data: JSON.stringify({ text: "é\n\u0000🚂'; DROP TABLE tasks" }) }));
      expect(await rowOf("a")).toMatchObject({
        key_id: "k",
        model: "echo",
        created_ms: 1_000,
        metadata: open("a").metadata,
        status: "PENDING",
        finished_ms: null,
        trimmed: 0,
      });
      expect(await findEnded(db.sql, "a")).toBeNull();
      expect(await findEnded(db.sql, "b")).toEqual({
        keyId: "k",
        status: "SUCCESS",
        eventId: "1.2",
        data: JSON.stringify({ text: "é\n\u0000🚂'; DROP TABLE tasks" }),
        createdMs: 1_000,
        finishedMs: 2_000,
        trimmed: false,
      });
      expect(await findEnded(db.sql, "'")).toBeNull();
    });

    test("what has ended stays ended, whatever is applied again", async () => {
      await save(ended("a"));
      const before = await rowOf("a");
      await save(open("a"));
      await save(ended("a", { status: "FAILURE", data: "other" }));
      await save(open("a", { cancelSequence: 5 }));
      expect(await rowOf("a")).toEqual(before);
    });

    test("a cancel is not forgotten by a row that does not know of it", async () => {
      await save(open("a", { cancelSequence: 5, cancelRequestedMs: 1_500 }));
      await save(open("a"));
      expect(await openCancels(db.sql)).toEqual([{ taskId: "a", keyId: "k" }]);
      await save(ended("a", { status: "CANCELLED" }));
      expect(await rowOf("a")).toMatchObject({ status: "CANCELLED", cancel_sequence: 5, cancel_requested_ms: 1_500 });
      expect(await openCancels(db.sql)).toEqual([]);
    });

    test("one of an older task of the same id, heard late, changes nothing of the newer one's", async () => {
      await save(open("a", { createdMs: 9_000 }));
      await save(open("a"));
      await save(ended("a"));
      expect(await rowOf("a")).toMatchObject({ created_ms: 9_000, status: "PENDING", finished_ms: null });
    });

    test("one that has left the logs gives way to another task of its id, but not to itself", async () => {
      await save(ended("a", { cancelSequence: 5, cancelRequestedMs: 1_500 }));
      await markTrimmed(db.sql, ["a"]);
      const before = await rowOf("a");
      await save(open("a")); // read again: the same time of creation
      expect(await rowOf("a")).toEqual(before);
      await save(open("a", { createdMs: 9_000 }));
      expect(await rowOf("a")).toMatchObject({
        created_ms: 9_000,
        status: "PENDING",
        finished_ms: null,
        data: null,
        result_sequence: null,
        cancel_sequence: null,
        cancel_requested_ms: null,
        trimmed: 0,
      });
    });
  });

  test("cursors go forward alone, and rows without their cursors are not written", async () => {
    await saveBatch(db.sql, [open("a")], { JOBS_0: 5, RESULTS_0: 7 });
    await saveBatch(db.sql, [], { JOBS_0: 3 });
    expect(Object.fromEntries(await loadCursors(db.sql))).toEqual({ JOBS_0: 5, RESULTS_0: 7 });
    const broken = saveBatch(db.sql, [open("b")], { JOBS_0: null as unknown as number });
    expect(await broken.catch(() => "refused")).toBe("refused");
    expect(await rowOf("b")).toBeUndefined();
  });

  test("endedBelow tells of these tasks those whose results are gone", async () => {
    await save(ended("a", { resultSequence: 9 }), ended("b", { resultSequence: 10 }), open("c"), ended("d"));
    const found = await endedBelow(db.sql, ["a", "b", "c", "nobody"], 10);
    expect([...found]).toEqual([["a", 2_000]]);
    expect((await endedBelow(db.sql, [], 10)).size).toBe(0);
  });

  test("history goes by age, once it is no longer in the logs", async () => {
    await save(ended("old"), ended("kept", { finishedMs: 5_000 }), ended("logged"), open("open"));
    await markTrimmed(db.sql, ["old", "kept"]);
    await deleteHistory(db.sql, 5_000);
    const left: { task_id: string }[] = await db.sql`SELECT task_id FROM tasks ORDER BY task_id`;
    expect(left.map((row) => row.task_id)).toEqual(["kept", "logged", "open"]);
  });
});
