// What a list and a search cost at 10,000, 100,000 and 1,000,000 rows of SQLite, and what a row costs to write with and
// without their indexes: `bun bench/find.ts`. Straight on the read model, without a broker; 1 GB of disk, two minutes.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { SQL } from "bun";
import { openReadModel } from "../src/db/db.ts";
import { randomTaskId } from "../src/ids.ts";
import type { TaskFilter } from "../src/tasks/filter.ts";
import { createFind, type Find } from "../src/tasks/find.ts";
import { saveBatch, type TaskRow } from "../src/tasks/store.ts";
import { runFolder } from "./home.ts";
import { table } from "./report.ts";
import { median, round } from "./statistics.ts";

const BATCH = 1_000;
const owner = { keyId: "bench" };
const words = "amber basin cedar delta ember fjord grove haven inlet jetty knoll larch marsh north ocean ridge".split(
  " ",
);

/** One in ten is another key's, one in a hundred failed, one in 50,000 has a word of its own. */
function rowOf(n: number, startMs: number): TaskRow {
  const createdMs = startMs + n * 50;
  const id = randomTaskId(createdMs);
  const failed = n % 100 === 1;
  const text = Array.from({ length: 16 }, (_, i) => words[(n * 31 + i * (n % 97)) % words.length]).join(" ");
  const inputText = n % 50_000 === 3 ? `needle ${text}` : text;
  const status = failed ? "FAILURE" : "SUCCESS";
  const timing = { queue_ms: 25, prepare_ms: 0.28, infer_ms: 0.22, postprocess_ms: 0.74, upload_ms: 1.6, total_ms: 35 };
  const actor = { id: "local-0-24805", gpu: "0" };
  const result = { echo: { text: inputText } };
  return {
    id,
    key: n % 10 === 0 ? "another" : owner.keyId,
    model: n % 7 === 0 ? "superres-x4" : "echo",
    priority: "normal",
    createdMs,
    metadata: `{"order":"${n}"}`,
    dueMs: null,
    startByMs: null,
    status,
    attempt: 1,
    cancelSequence: null,
    cancelRequestedMs: null,
    finishedMs: createdMs + 35,
    eventId: "1.2",
    data: JSON.stringify({ task_id: id, status, model: "echo", attempt: 1, actor, timing, result }),
    resultSequence: n,
    inputBytes: null,
    inputText,
    errorText: failed ? "runner_failed the gpu fell off the bus" : null,
    retryOf: null,
  };
}

/** Milliseconds: median [most] of so many runs. */
async function timed(runs: number, run: () => Promise<unknown>): Promise<string> {
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const startMs = performance.now();
    await run();
    times.push(performance.now() - startMs);
  }
  return `${round(median(times), 2)} [${round(Math.max(...times), 2)}]`;
}

async function toTheEnd(find: Find, filter: TaskFilter): Promise<void> {
  for (let after = (await find.tasks(owner, filter, null, 100)).next; after; ) {
    after = (await find.tasks(owner, filter, after, 100)).next;
  }
}

async function measure(find: Find): Promise<Record<string, string>> {
  let deep = null;
  for (let i = 0; i < 30; i++) deep = (await find.tasks(owner, {}, deep, 100)).next;
  const page = (filter: TaskFilter, after = null as typeof deep) => find.tasks(owner, filter, after, 20);
  return {
    "first page": await timed(20, () => page({})),
    "a page 3,000 tasks deep": await timed(20, () => page({}, deep)),
    "status=FAILURE": await timed(20, () => page({ status: "FAILURE" })),
    "status=PENDING, none": await timed(20, () => page({ status: "PENDING" })),
    "model, 1 in 7": await timed(20, () => page({ model: "superres-x4" })),
    "q, common words": await timed(20, () => page({ q: "amber cedar" })),
    "q, no match, one call": await timed(5, () => page({ q: "nothing-has-this" })),
    "q, 1 in 50,000, every call to the end": await timed(1, () => toTheEnd(find, { q: "needle" })),
    "q and status=FAILURE, to the end": await timed(3, () => toTheEnd(find, { q: "needle", status: "FAILURE" })),
  };
}

/** Writes rows up to `count`, from `from` on; resolves to microseconds a row. */
async function fill(sql: SQL, from: number, count: number, startMs: number): Promise<number> {
  let writingMs = 0;
  for (let n = from; n < count; n += BATCH) {
    const rows = Array.from({ length: BATCH }, (_, i) => rowOf(n + i, startMs));
    const beganMs = performance.now();
    await saveBatch(sql, rows, { JOBS_0: n });
    writingMs += performance.now() - beganMs;
  }
  return (writingMs * 1_000) / (count - from);
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { rows: { type: "string", default: "10000,100000,1000000" } } });
  const counts = values.rows.split(",").map(Number);
  const folder = runFolder("find");
  const startMs = Date.now() - 86_400_000;
  const written: string[][] = [];
  const measured: Record<string, string>[] = [];
  for (const indexed of [false, true]) {
    const db = await openReadModel({ dataDir: join(folder, String(indexed)), databaseUrl: null });
    const indexes = ["tasks_by_age", "tasks_without_success"];
    if (!indexed) for (const name of indexes) await db.sql.unsafe(`DROP INDEX ${name}`);
    const read = async (taskId: string) => ({ taskId, status: "PENDING", terminal: false, json: "{}" }) as const;
    const times: string[] = [];
    for (const [index, count] of counts.entries()) {
      times.push(String(round(await fill(db.sql, counts[index - 1] ?? 0, count, startMs), 1)));
      if (indexed) measured.push(await measure(createFind(db.sql, { read })));
    }
    written.push([indexed ? "row written, both indexes, µs" : "row written, neither index, µs", ...times]);
    await db.close();
  }
  rmSync(folder, { recursive: true, force: true });
  const names = Object.keys(measured[0] ?? {});
  const rows = names.map((name) => [name, ...measured.map((column) => column[name] ?? "")]);
  console.log(table(["rows", ...counts.map((count) => count.toLocaleString("en"))], [...rows, ...written]));
}

if (import.meta.main) await main();
