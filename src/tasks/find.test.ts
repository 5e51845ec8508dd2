import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { forEachDatabase } from "../../tests/databases.ts";
import { openRow } from "../../tests/task-row.ts";
import { type Db, openReadModel } from "../db/db.ts";
import { AppError } from "../errors.ts";
import { cursorOf, type Position, positionOf, type TaskFilter } from "./filter.ts";
import { createFind, type Find } from "./find.ts";
import { saveBatch, type TaskRow } from "./store.ts";
import { isTerminal, type Status } from "./task.ts";
import type { Tasks } from "./tasks.ts";

const owner = { keyId: "alice" };

const idOf = (n: number): string => `01arz3ndektsv4rrff${String(n).padStart(8, "0")}`;

const rowOf = (n: number, fields: Partial<TaskRow> = {}): TaskRow =>
  openRow(idOf(n), {
    key: "alice",
    createdMs: 1_000 + n,
    status: "SUCCESS",
    attempt: 1,
    finishedMs: 5_000 + n,
    eventId: "1.2",
    data: `{"n":${n}}`,
    resultSequence: n + 1,
    inputText: "",
    ...fields,
  });
const waiting = { status: "PENDING", finishedMs: null, eventId: null, data: null, resultSequence: null } as const;

/** What the logs say of an open task: it is still as its row says. */
const asWritten: Tasks["read"] = async (taskId) => ({ taskId, status: "PENDING", terminal: false, json: "{}" });

/** Every page from the first on; the cursor between them is text, as a client has it. */
async function pages(find: Find, filter: TaskFilter, limit: number): Promise<string[][]> {
  const found: string[][] = [];
  let after: Position | null = null;
  do {
    const page: Awaited<ReturnType<Find["tasks"]>> = await find.tasks(owner, filter, after, limit);
    expect(page.items.length).toBeLessThanOrEqual(limit);
    found.push(page.items.map((item) => item.taskId));
    after = page.next && positionOf(cursorOf(page.next));
  } while (after);
  return found;
}

test("a cursor is what a page has given, and nothing else", () => {
  const place = { createdMs: 1_795_255_200_000, taskId: idOf(7) };
  expect(positionOf(cursorOf(place))).toEqual(place);
  for (const text of ["", "x", "1.x", `-1.${idOf(7)}`, `1e3.${idOf(7)}`, `1.${"U".repeat(26)}`, `1.${idOf(7)} `]) {
    expect([text, positionOf(Buffer.from(text).toString("base64url"))]).toEqual([text, null]);
  }
});

forEachDatabase((databases) => {
  const open: Db[] = [];
  afterAll(() => Promise.all(open.map((db) => db.close())));

  async function findIn(rows: readonly TaskRow[], read: Tasks["read"] = asWritten): Promise<Find> {
    const db = await openReadModel(await databases.empty());
    open.push(db);
    for (let from = 0; from < rows.length; from += 1_000) await saveBatch(db.sql, rows.slice(from, from + 1_000), {});
    return createFind(db.sql, { read });
  }

  test("whatever is asked for: the pages together are just what matches, newest first", async () => {
    const statuses: Status[] = ["SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "PENDING", "CANCELLED"];
    const words = ["amber", "100%", "c_dar", "d!lta", "ünïcode"];
    const rows = Array.from({ length: 900 }, (_, n): TaskRow => {
      const status = statuses[(n * 7) % statuses.length] ?? "SUCCESS";
      return rowOf(n, {
        key: n % 9 === 0 ? "bob" : "alice",
        model: n % 13 === 0 ? "rare" : "echo",
        priority: n % 3 === 0 ? "low" : "normal",
        createdMs: 1_000 + Math.floor(n / 4), // four of each millisecond
        metadata: JSON.stringify({ a: ['x"y', "x", "X"][n % 3] ?? "", "b.c": String(n % 2) }),
        inputText: `${words[n % 5]} ${words[n % 4]}`,
        errorText: status === "FAILURE" ? `${words[n % 3]} broke` : null,
        ...(status === "PENDING" ? waiting : { status }),
      });
    });
    const find = await findIn(rows);
    const expected = (filter: TaskFilter): string[] =>
      rows
        .filter((row) => {
          const metadata = JSON.parse(row.metadata) as Record<string, string>;
          const text = `${row.inputText} ${row.errorText ?? ""}`;
          return (
            row.key === "alice" &&
            (filter.status === undefined || filter.status === row.status || (filter.status === "OPEN" && !row.data)) &&
            (filter.model ?? row.model) === row.model &&
            (filter.priority ?? row.priority) === row.priority &&
            (filter.q ?? "").split(" ").every((word) => text.includes(word.toLowerCase())) &&
            Object.entries(filter.metadata ?? {}).every(([name, value]) => metadata[name] === value) &&
            row.createdMs >= (filter.createdAfterMs ?? 0) &&
            row.createdMs < (filter.createdBeforeMs ?? Number.MAX_SAFE_INTEGER)
          );
        })
        .sort((a, b) => b.createdMs - a.createdMs || (a.id < b.id ? 1 : -1))
        .map((row) => row.id);
    const filters: fc.Arbitrary<TaskFilter> = fc.record(
      {
        status: fc.constantFrom<NonNullable<TaskFilter["status"]>>("SUCCESS", "FAILURE", "PENDING", "OPEN", "RETRY"),
        model: fc.constantFrom("echo", "rare", "none"),
        priority: fc.constantFrom("high", "normal", "low"),
        q: fc.constantFrom("AMBER", "100%", "c_dar ambe", "d!lta", "broke 100%", "ÜNÏ", "_", "%", "!", "nothing"),
        metadata: fc.constantFrom({ a: "x" }, { a: "X" }, { a: 'x"y' }, { a: "x", "b.c": "1" }, { b: "x" }, { a: "%" }),
        createdAfterMs: fc.integer({ min: 990, max: 1_240 }),
        createdBeforeMs: fc.integer({ min: 990, max: 1_240 }),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(filters, fc.integer({ min: 1, max: 120 }), async (filter, limit) => {
        expect((await pages(find, filter, limit)).flat()).toEqual(expected(filter));
      }),
      { numRuns: 150 },
    );
  }, 60_000);

  describe("bounds", () => {
    test("what stands on either side of a window's edge is found once", async () => {
      const rows = Array.from({ length: 800 }, (_, n) => rowOf(n, { model: n % 25 <= 1 ? "rare" : "echo" }));
      const find = await findIn(rows);
      // The first window is of 250 rows: the last of it is the first "rare" of a pair, and the next begins with the other.
      const expected = rows.filter((row) => row.model === "rare").map((row) => row.id);
      expect((await pages(find, { model: "rare" }, 100)).flat()).toEqual(expected.reverse());
      for (const edge of [549, 550, 551]) {
        const alone = await findIn([...rows.slice(0, edge), rowOf(edge, { model: "one" }), ...rows.slice(edge + 1)]);
        expect(await pages(alone, { model: "one" }, 100)).toEqual([[idOf(edge)]]);
      }
    });

    // The count is ours and the same on both; filling PostgreSQL takes seconds.
    test.skipIf(databases.name !== "SQLite")(
      "a search stops after 50,000 rows, and goes on from there",
      async () => {
        const needle = rowOf(0, { inputText: "a needle" });
        const find = await findIn([needle, ...Array.from({ length: 51_000 }, (_, n) => rowOf(n + 1))]);
        const found = await pages(find, { q: "needle" }, 20);
        // On a machine that stands still the time ends a page earlier; never a later row.
        expect(found[0]).toEqual([]);
        expect(found.flat()).toEqual([needle.id]);
      },
      30_000,
    );

    test("of tasks in one open state 500 are read from the logs, and the next page goes on", async () => {
      let reads = 0;
      const started = new Set([idOf(0), idOf(500), idOf(599)]);
      const rows = Array.from({ length: 600 }, (_, n) => rowOf(n, waiting));
      const find = await findIn(rows, async (taskId) => {
        reads++;
        return { taskId, status: started.has(taskId) ? "STARTED" : "PENDING", terminal: false, json: "{}" };
      });
      const first = await find.tasks(owner, { status: "STARTED" }, null, 20);
      expect(first.items.map((item) => item.taskId)).toEqual([idOf(599), idOf(500)]);
      expect(reads).toBeLessThanOrEqual(550);
      expect((await find.tasks(owner, { status: "STARTED" }, first.next, 20)).items.map((item) => item.taskId)).toEqual(
        [idOf(0)],
      );
    });

    test("64 searches wait for their turn, the next is told to come back; lists do not wait", async () => {
      const find = await findIn([rowOf(1)]);
      const search = () => find.tasks(owner, { model: "echo" }, null, 20);
      const many = Array.from({ length: 64 }, search);
      expect(await search().catch((error: unknown) => error)).toMatchObject({ code: "not_ready" });
      expect((await find.tasks(owner, {}, null, 20)).items).toHaveLength(1);
      for (const page of await Promise.all(many)) expect(page.items).toHaveLength(1);
    });
  });

  test("an open row is shown as the logs have it; one that is gone or has changed its state is left out", async () => {
    const find = await findIn([rowOf(1, waiting), rowOf(2, waiting), rowOf(3, waiting)], async (taskId) => {
      if (taskId === idOf(2)) throw new AppError("task_not_found", "gone");
      const status = taskId === idOf(3) ? "SUCCESS" : "STARTED";
      return { taskId, status, terminal: isTerminal(status), json: `"${status}"` };
    });
    const all = await find.tasks(owner, {}, null, 20);
    expect(all.items.map(({ taskId, json }) => [taskId, json])).toEqual([
      [idOf(3), '"SUCCESS"'],
      [idOf(1), '"STARTED"'],
    ]);
    expect((await find.tasks(owner, { status: "OPEN" }, null, 20)).items.map((item) => item.taskId)).toEqual([idOf(1)]);
    expect((await find.tasks(owner, { status: "PENDING" }, null, 20)).items).toEqual([]);
    expect((await find.rows(owner, { status: "OPEN" }, null, 20)).items).toHaveLength(3);
  });
});
