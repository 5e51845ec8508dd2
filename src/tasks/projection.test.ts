import { expect, test } from "bun:test";
import type { SQL } from "bun";
import fc from "fast-check";
import { forEachDatabase, inNumbers } from "../../tests/databases.ts";
import { rfc3339 } from "../clock.ts";
import { openReadModel } from "../db/db.ts";
import { silentLog } from "../log.ts";
import type { HeardResult } from "./logs.ts";
import { openProjection, type Projection } from "./projection.ts";
import { type JobRecord, parseResultRecord, resultRecord } from "./records.ts";
import { loadCursors } from "./store.ts";

type Put = (projection: Projection) => void;
interface Logs {
  /** In the order of the log of jobs, and of the log of results. */
  readonly jobs: readonly Put[];
  readonly results: readonly Put[];
}
type Outcome = "open" | "cancelling" | "success" | "failure" | "cancelled";

const idOf = (n: number): string => `01arz3ndektsv4rrffq69g5${String(n).padStart(3, "0")}`;

function logsOf(outcomes: readonly Outcome[], order: readonly number[]): Logs {
  const jobs = outcomes.map((_, n): Put => {
    const job: JobRecord = {
      v: 1,
      id: idOf(n),
      key: "k",
      hash: "",
      nonce: "n",
      created: 1_000 + n,
      trace: "",
      model: `m${n % 3}`,
      priority: n % 2 === 0 ? "high" : "low",
      input: { text: `Input ${n}` },
      metadata: { n: String(n) },
    };
    return (projection) => projection.job(job.id, () => job, "JOBS_0", n + 1, false);
  });
  const results: Put[] = [];
  const add = (n: number, token: "success" | "failure" | "cancelled" | "cancelling"): void => {
    const data = {
      task_id: idOf(n),
      model: `m${n % 3}`,
      priority: n % 2 === 0 ? "high" : "low",
      created_at: rfc3339(1_000 + n),
      input: { text: `Input ${n}` },
      metadata: { n: String(n) },
      ...(token === "cancelling" ? {} : { attempt: 1 + (n % 2) }),
    };
    const head = { token, taskId: idOf(n), keyId: "k", fence: "f", eventId: "1.2", timeMs: 5_000 + n };
    const record = parseResultRecord(resultRecord(head, JSON.stringify(data)));
    const heard: HeardResult = { record, partition: 0, model: data.model, sequence: results.length + 1 };
    results.push((projection) => projection.result(heard, "RESULTS_0"));
  };
  for (const n of order) {
    const outcome = outcomes[n];
    if (outcome === "cancelling" || outcome === "cancelled") add(n, "cancelling");
    if (outcome !== undefined && outcome !== "open" && outcome !== "cancelling") add(n, outcome);
  }
  return { jobs, results };
}

const rowsOf = async (sql: SQL): Promise<object[]> => {
  const rows = inNumbers(await sql`SELECT * FROM tasks ORDER BY task_id`);
  return rows.map(({ row_id: _, ...row }) => row);
};

/** Feeds both logs from the cursors on, taking turns as told; stops after `count` records. */
async function feed(sql: SQL, logs: Logs, turns: readonly boolean[], count: number, flushEvery: number): Promise<void> {
  const projection = openProjection(sql, silentLog);
  const cursors = await loadCursors(sql);
  const left = {
    jobs: logs.jobs.slice(cursors.get("JOBS_0") ?? 0),
    results: logs.results.slice(cursors.get("RESULTS_0") ?? 0),
  };
  for (let i = 0; i < count && left.jobs.length + left.results.length > 0; i++) {
    const jobsFirst = turns[i % turns.length] === true;
    const put = (jobsFirst ? left.jobs.shift() : left.results.shift()) ?? left.jobs.shift() ?? left.results.shift();
    put?.(projection);
    if (i % flushEvery === flushEvery - 1) await projection.flush();
  }
  await projection.stop();
}

forEachDatabase((databases) => {
  const freshSql = async () => openReadModel(await databases.empty());

  test("whatever the order in which the two logs are heard, and wherever it stopped and went on: the same rows", async () => {
    const outcome = fc.constantFrom<Outcome>("open", "cancelling", "success", "failure", "cancelled");
    const scenario = fc.array(outcome, { minLength: 1, maxLength: 12 }).chain((outcomes) =>
      fc.record({
        outcomes: fc.constant(outcomes),
        order: fc.shuffledSubarray([...outcomes.keys()], { minLength: outcomes.length }),
        turns: fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
        stops: fc.array(fc.nat({ max: 10 }), { maxLength: 4 }),
        flushEvery: fc.integer({ min: 1, max: 9 }),
      }),
    );
    await fc.assert(
      fc.asyncProperty(scenario, async ({ outcomes, order, turns, stops, flushEvery }) => {
        const logs = logsOf(outcomes, order);
        const whole = await freshSql();
        await feed(whole.sql, logs, [true], Number.POSITIVE_INFINITY, 1_000);
        const parts = await freshSql();
        for (const count of stops) await feed(parts.sql, logs, turns, count, flushEvery);
        await feed(parts.sql, logs, turns, Number.POSITIVE_INFINITY, flushEvery);
        expect(await rowsOf(parts.sql)).toEqual(await rowsOf(whole.sql));
        expect(Object.fromEntries(await loadCursors(parts.sql))).toEqual(
          Object.fromEntries(await loadCursors(whole.sql)),
        );
        // Everything once more, from the beginning, as after a loss of the cursors.
        await parts.sql`DELETE FROM cursors`;
        await feed(parts.sql, logs, turns, Number.POSITIVE_INFINITY, flushEvery);
        expect(await rowsOf(parts.sql)).toEqual(await rowsOf(whole.sql));
        await Promise.all([whole.close(), parts.close()]);
      }),
      { numRuns: databases.name === "SQLite" ? 40 : 15 },
    );
  }, 60_000);

  test("a row for each task, with what the logs say of it", async () => {
    const db = await freshSql();
    await feed(db.sql, logsOf(["open", "success", "cancelling", "cancelled"], [1, 2, 3]), [false], 99, 99);
    const rows = await rowsOf(db.sql);
    expect(rows).toHaveLength(4);
    expect(rows).toMatchObject([
      { status: "PENDING", attempt: 0, cancel_sequence: null, finished_ms: null, created_ms: 1_000, priority: "high" },
      { status: "SUCCESS", attempt: 2, finished_ms: 5_001, result_sequence: 1, metadata: '{"n":"1"}', model: "m1" },
      { status: "PENDING", cancel_sequence: 2, cancel_requested_ms: 5_002, finished_ms: null },
      { status: "CANCELLED", cancel_sequence: 3, finished_ms: 5_003, result_sequence: 4, event_id: "1.2" },
    ]);
    await db.close();
  });

  test("a cursor never stands past a task that has no row yet, so that nothing is lost when it stops there", async () => {
    const db = await freshSql();
    const projection = openProjection(db.sql, silentLog);
    // Every second task has ended and is written at once; the others are held back for a while.
    const count = 40;
    const outcomes = Array.from({ length: count }, (_, n): Outcome => (n % 2 === 0 ? "open" : "success"));
    const logs = logsOf(outcomes, [...outcomes.keys()]);
    for (const put of [...logs.jobs, ...logs.results]) put(projection);
    const deadline = performance.now() + 20_000;
    for (let looks = 1; ; looks++) {
      const [counts] = await db.sql`SELECT (SELECT sequence FROM cursors WHERE stream = 'JOBS_0') AS read,
        (SELECT count(*) FROM tasks WHERE task_id <= ${idOf(0)}) AS written`;
      const [read, written] = [Number(counts.read), Number(counts.written)];
      expect({ looks, read }).toEqual({ looks, read: written === 0 ? 0 : expect.any(Number) });
      if (read === count) break;
      expect(performance.now()).toBeLessThan(deadline);
      // SQLite answers without a turn of the event loop, and the projection writes by a timer.
      await new Promise((turn) => setImmediate(turn));
    }
    await projection.stop();
    expect(await rowsOf(db.sql)).toHaveLength(count);
    await db.close();
  }, 30_000);

  test("what a search finds of an error is gone with the task's data, also where the row is made anew", async () => {
    const db = await freshSql();
    const projection = openProjection(db.sql, silentLog);
    const error = { code: "runner_failed", message: "Broke", stage: "infer", retryable: true };
    for (const [n, more] of [{}, { data_deleted_at: rfc3339(9_000) }].entries()) {
      const data = {
        model: "m",
        priority: "low",
        created_at: rfc3339(1_000),
        metadata: {},
        attempt: 1,
        error,
        ...more,
      };
      const head = { taskId: idOf(n), keyId: "k", fence: "f", eventId: "1.2", timeMs: 5_000 };
      const record = parseResultRecord(resultRecord({ token: "failure", ...head }, JSON.stringify(data)));
      projection.result({ record, partition: 0, model: "m", sequence: n + 1 }, "RESULTS_0");
    }
    await projection.stop();
    expect(await rowsOf(db.sql)).toMatchObject([{ error_text: "runner_failed broke" }, { error_text: null }]);
    await db.close();
  });

  test("a job of an unknown form is left out, and holds nobody else", async () => {
    const db = await freshSql();
    const projection = openProjection(db.sql, silentLog);
    const logs = logsOf(["open", "open"], []);
    logs.jobs[0]?.(projection);
    const unknown = (): JobRecord => {
      throw new Error("a later version");
    };
    projection.job(idOf(500), unknown, "JOBS_0", 2, false);
    logs.jobs[1]?.(projection);
    await projection.stop();
    expect(await rowsOf(db.sql)).toHaveLength(2);
    expect((await loadCursors(db.sql)).get("JOBS_0")).toBe(2);
    await db.close();
  });
});
