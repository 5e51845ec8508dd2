// The read model is derived: written anew from the logs it is the same, row by row, as what the gateway wrote while
// tasks of every outcome came and went and it was killed in between.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseResult, streams } from "../src/bus/subjects.ts";
import { readOldest } from "../src/bus/trim.ts";
import { openReadModel, readModelPath } from "../src/db/db.ts";
import { silentLog } from "../src/log.ts";
import { projectHere } from "../src/tasks/projector.ts";
import { events } from "./event-reader.ts";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(60_000);

let stack: Stack;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace read model "));
  const pluginsDir = join(import.meta.dir, "fixtures/plugins");
  stack = await startStack({
    settings: { PLUGINS_DIR: pluginsDir, MODELS: "echo,refuser,recorder,stubborn", PARTITIONS: "3" },
  });
});

afterAll(async () => {
  await stack.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Tasks of every outcome; those that go on for ever are given in `open`. */
async function submitAll(round: number): Promise<{ readonly ended: string[]; readonly open: string[] }> {
  const echo = async (input: object, more: object = {}): Promise<string> =>
    (await stack.submit({ model: "echo", input, metadata: { round: String(round) }, ...more })).task_id;
  const recorder = (more: object) => ({
    model: "recorder",
    input: { file: join(folder, "ran.txt"), name: "r", ...more },
  });
  const ended = await Promise.all([
    ...Array.from({ length: 30 }, (_, i) => echo({ text: `${round} ${i} ünïcode "quoted"` })),
    echo({ fail_times: 1 }, { priority: "high" }),
    echo({ fail_times: 9 }, { max_attempts: 1 }),
    echo({ text: "x".repeat(20_000) }, { priority: "low" }),
    echo({ text: "x".repeat(70_000) }),
    echo({ text: "same" }, { client_request_id: `round-${round}` }),
    stack.submit({ model: "refuser", input: {} }).then((task) => task.task_id),
    echo({ sleep_ms: 1_500 }),
  ]);
  const running = await echo({ sleep_ms: 600_000 });
  const retried = await echo({ fail_times: 9 }, { max_attempts: 9 });
  for await (const { event } of events(stack, retried)) if (event === "RETRY") break;
  await stack.started(running);
  const occupant = (await stack.submit(recorder({ sleep_ms: 600_000 }))).task_id;
  const pending = (await stack.submit(recorder({}))).task_id;
  const cancelled = (await stack.submit(recorder({}))).task_id;
  // Cancelled two seconds before its end: the marker is written long before.
  const stubborn = (await stack.submit({ model: "stubborn", input: { sleep_ms: 2_000 } })).task_id;
  await stack.started(stubborn);
  const doomed = [running, retried, cancelled, stubborn];
  for (const id of doomed) expect((await stack.call("DELETE", `/v1/tasks/${id}`)).status).toBe(202);
  return { ended: [...ended, ...doomed], open: [occupant, pending] };
}

/** How many records of each kind the logs hold. */
async function storedKinds(): Promise<Record<string, number>> {
  const kinds: Record<string, number> = {};
  for (const stream of [0, 1, 2].flatMap((partition) => [streams.jobs(partition), streams.results(partition)])) {
    for (const { subject } of await readOldest(stack.bus, stream, 1, 1_000)) {
      const result = parseResult(subject);
      const kind = result === null ? "job" : result.status === "cancelling" ? "marker" : "end";
      kinds[kind] = (kinds[kind] ?? 0) + 1;
    }
  }
  return kinds;
}

type Row = Readonly<Record<string, unknown>>;

/** Every column but the surrogate key, which is given in the order of writing. */
function rowsOf(path: string): Row[] {
  using database = new Database(path, { readonly: true });
  const columns = (database.query("PRAGMA table_info(tasks)").all() as { name: string }[]).map(({ name }) => name);
  const compared = columns.filter((name) => name !== "row_id").join(", ");
  return database.query(`SELECT ${compared} FROM tasks ORDER BY task_id`).all() as Row[];
}

test("rebuilt from the logs it has the same rows, column by column", async () => {
  const first = await submitAll(1);
  // Written after the markers were heard: the reading has gone on beyond them when the gateway dies.
  const { task_id: last } = await stack.submit({ model: "echo", input: {} });
  await stack.until("the last row", 10_000, async () =>
    rowsOf(readModelPath(stack.dataDir)).some((row) => row.task_id === last && row.finished_ms !== null) ? true : null,
  );
  process.kill(await stack.pidOf("gateway"), "SIGKILL");
  await stack.logged({ message: "child is ready", process: "gateway", start: 2 });
  await stack.ready();
  const second = await submitAll(2);
  const ended = [...first.ended, last, ...second.ended];
  const open = [...first.open, ...second.open];
  for (const id of ended) await stack.ended(id);

  const live = await stack.until("the read model", 20_000, async () => {
    const rows = rowsOf(readModelPath(stack.dataDir));
    const settled = rows.filter(({ finished_ms }) => finished_ms !== null);
    return rows.length === ended.length + open.length && settled.length === ended.length ? rows : null;
  });
  const db = await openReadModel({ dataDir: join(folder, "rebuilt"), databaseUrl: null });
  const projector = await projectHere({ bus: stack.bus, sql: db.sql, partitions: 3, log: silentLog });
  await projector.caughtUp;
  await projector.stop();
  const records = projector.records();
  await db.close();
  // A job each, an end for each that ended, and a marker for each of the eight that were cancelled.
  const stored = await storedKinds();
  expect(stored).toEqual({ job: live.length, end: ended.length, marker: 8 });
  expect(records).toBe(live.length + ended.length + 8);
  const rebuilt = rowsOf(readModelPath(join(folder, "rebuilt")));
  expect(rebuilt).toEqual(live);

  const statuses = live.map(({ status }) => status);
  expect([...new Set(statuses)].sort()).toEqual(["CANCELLED", "FAILURE", "PENDING", "SUCCESS"]);
  expect(live.filter(({ cancel_sequence }) => cancel_sequence !== null)).toHaveLength(8);
  for (const row of live) {
    const task = await stack.read(String(row.task_id));
    if (row.data !== null) expect(JSON.parse(String(row.data))).toEqual(task);
  }
});
