// How many rows of ended tasks a second the read model takes, in batches as the projector writes them: on SQLite in a
// temporary folder, or on the PostgreSQL of DATABASE_URL (an empty database of its own: the rows stay there).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openReadModel } from "../src/db/db.ts";
import { randomTaskId } from "../src/ids.ts";
import { saveBatch, type TaskRow } from "../src/tasks/store.ts";

const ROWS = 60_000;
/** The projector's largest batch. */
const BATCH = 1_024;

function endedTask(n: number): TaskRow {
  const nowMs = Date.now();
  const id = randomTaskId(nowMs);
  const head = { task_id: id, status: "SUCCESS", model: "echo", priority: "normal", attempt: 1 };
  const timing = { queue_ms: 2, prepare_ms: 0.28, infer_ms: 0.22, postprocess_ms: 0.74, upload_ms: 1.62, total_ms: 5 };
  const end = { actor: { id: "local-0-24805", gpu: "0" }, timing, result: { echo: { text: "hello" } }, metadata: {} };
  return {
    id,
    key: "bench",
    model: "echo",
    priority: "normal",
    createdMs: nowMs,
    metadata: "{}",
    dueMs: null,
    startByMs: null,
    status: "SUCCESS",
    attempt: 1,
    cancelSequence: null,
    cancelRequestedMs: null,
    finishedMs: nowMs,
    eventId: "1.2",
    data: JSON.stringify({ ...head, ...end }),
    resultSequence: n,
    inputBytes: null,
    inputText: "hello",
    errorText: null,
    retryOf: null,
  };
}

const dataDir = await mkdtemp(join(tmpdir(), "millrace rows "));
const databaseUrl = process.env.DATABASE_URL ?? null;
const db = await openReadModel({ dataDir, databaseUrl });
const batches = Array.from({ length: Math.ceil(ROWS / BATCH) }, (_, batch) =>
  Array.from({ length: BATCH }, (_, n) => endedTask(batch * BATCH + n)),
);
const cpuBefore = process.cpuUsage();
const startMs = performance.now();
for (const [index, batch] of batches.entries()) await saveBatch(db.sql, batch, { RESULTS_0: (index + 1) * BATCH });
const tookMs = performance.now() - startMs;
const { user, system } = process.cpuUsage(cpuBefore);
const rows = batches.length * BATCH;
const rate = Math.round((rows / tookMs) * 1_000);
const cpuUs = ((user + system) / rows).toFixed(1);
process.stdout.write(`${databaseUrl ? "PostgreSQL" : "SQLite"}: ${rate} rows/s, ${cpuUs} us of CPU a row here\n`);
await db.close();
await rm(dataDir, { recursive: true, force: true });
