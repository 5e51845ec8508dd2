// How far `queue_position` and `eta_ms` are from what then happens: `bun bench/forecast.ts`. Submits backlogs of tasks
// whose length is known here and not to the service, reads some of the waiting ones again and again, and compares what
// was said with when each really started and ended.
import { parseArgs } from "node:util";
import { type Children, withChildren } from "./children.ts";
import { parseSettings } from "./compare.ts";
import { runFolder } from "./home.ts";
import { table } from "./report.ts";
import type { Running } from "./running.ts";
import { startStack } from "./stack.ts";
import { median, quantiles, round } from "./statistics.ts";

interface Backlog {
  readonly name: string;
  readonly count: number;
  /** Milliseconds that the task `index` takes. */
  readonly lengthMs: (index: number) => number;
}

/** Four slots: two actors with two each. */
const backlogs: readonly Backlog[] = [
  { name: "600 of 50 ms", count: 600, lengthMs: () => 50 },
  { name: "600 of 10 to 90 ms", count: 600, lengthMs: () => 10 + Math.floor(Math.random() * 81) },
  { name: "600, 9 of 10 of 10 ms, the others 400 ms", count: 600, lengthMs: (i) => (i % 10 === 0 ? 400 : 10) },
  { name: "40 of 1,000 ms", count: 40, lengthMs: () => 1_000 },
  { name: "8,000 that do nothing", count: 8_000, lengthMs: () => 0 },
];

interface Task {
  readonly task_id: string;
  readonly status: string;
  readonly queue_position?: number;
  readonly eta_ms?: number | null;
  readonly started_at: string;
  readonly finished_at: string;
}

/** What was said of a waiting task, and when. */
interface Said {
  readonly id: string;
  readonly atMs: number;
  readonly position: number;
  readonly etaMs: number | null;
}

const BATCH = 1_000;
const SAMPLED = 20;
const LOOK_EVERY_MS = 200;
const DRAIN_MS_MAX = 120_000;

async function call<T>(running: Running, path: string, body?: object): Promise<T> {
  const headers = { "x-api-key": running.key, "content-type": "application/json" };
  const init = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  return (await (await fetch(running.base + path, init)).json()) as T;
}

async function submit(running: Running, backlog: Backlog): Promise<string[]> {
  const tasks = Array.from({ length: backlog.count }, (_, index) => {
    const sleepMs = backlog.lengthMs(index);
    return { model: running.model, input: { text: "x", ...(sleepMs > 0 && { sleep_ms: sleepMs }) } };
  });
  const ids: string[] = [];
  for (let from = 0; from < tasks.length; from += BATCH) {
    const answer = await call<{ results: { task_id?: string }[] }>(running, "/v1/tasks/batch", {
      tasks: tasks.slice(from, from + BATCH),
    });
    ids.push(...answer.results.map(({ task_id }) => task_id ?? ""));
  }
  return ids;
}

/** Reads sampled tasks while they wait, then all of them when they have ended. */
async function observe(running: Running, ids: readonly string[]): Promise<{ said: Said[]; tasks: Task[] }> {
  const read = (id: string): Promise<Task> => call<Task>(running, `/v1/tasks/${id}`);
  let sampled = Array.from({ length: SAMPLED }, (_, i) => ids[Math.floor(((i + 0.5) * ids.length) / SAMPLED)] ?? "");
  const said: Said[] = [];
  const deadline = performance.now() + DRAIN_MS_MAX;
  while (sampled.length > 0) {
    const tasks = await Promise.all(sampled.map(read));
    const atMs = Date.now();
    for (const { task_id: id, queue_position: position, eta_ms } of tasks) {
      if (position !== undefined) said.push({ id, atMs, position, etaMs: eta_ms ?? null });
    }
    sampled = tasks.filter(({ status }) => status === "PENDING").map(({ task_id }) => task_id);
    if (performance.now() > deadline) throw new Error("the backlog does not drain");
    await Bun.sleep(LOOK_EVERY_MS);
  }
  const tasks: Task[] = [];
  for (const id of ids) tasks.push(await call<Task>(running, `/v1/tasks/${id}?wait=60`));
  return { said, tasks };
}

/** One row: of how many statements, the errors of the time and of the position. */
function judge(backlog: Backlog, said: readonly Said[], tasks: readonly Task[]): string[] {
  const byId = new Map(tasks.map((task) => [task.task_id, task]));
  const starts = tasks.map((task) => Date.parse(task.started_at)).sort((a, b) => a - b);
  const startedBefore = (ms: number): number => starts.filter((start) => start < ms).length;
  const ends = tasks.map((task) => Date.parse(task.finished_at));
  const errors: number[] = [];
  const shares: number[] = [];
  const positions: number[] = [];
  for (const { id, atMs, position, etaMs } of said) {
    const task = byId.get(id);
    if (!task) continue;
    const trueMs = Date.parse(task.finished_at) - atMs;
    const truePosition = startedBefore(Date.parse(task.started_at)) - startedBefore(atMs) + 1;
    positions.push(position - truePosition);
    if (etaMs === null) continue;
    errors.push(etaMs - trueMs);
    if (trueMs > 250) shares.push(Math.abs(etaMs - trueMs) / trueMs);
  }
  const absolute = quantiles(errors.map(Math.abs));
  const share = quantiles(shares);
  const places = quantiles(positions.map(Math.abs));
  const drainS = (Math.max(...ends) - Math.min(...starts)) / 1_000;
  return [
    backlog.name,
    String(round(drainS, 1)),
    `${said.length} (${said.length - errors.length} without)`,
    `${Math.round(absolute.p50)}, ${Math.round(absolute.p95)}`,
    String(Math.round(median(errors))),
    `${Math.round(share.p50 * 100)}%, ${Math.round(share.p95 * 100)}%`,
    `${Math.round(median(positions))}`,
    `${Math.round(places.p50)}, ${Math.round(places.p95)}`,
  ];
}

async function run(children: Children, settings: Readonly<Record<string, string>>): Promise<string[][]> {
  const running = await startStack(runFolder("forecast"), children, { model: "bench-echo", settings });
  const rows: string[][] = [];
  for (const backlog of backlogs) {
    const { said, tasks } = await observe(running, await submit(running, backlog));
    rows.push(judge(backlog, said, tasks));
    console.error(JSON.stringify(rows.at(-1)));
  }
  return rows;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { set: { type: "string", multiple: true, default: [] } } });
  const heads = [
    "backlog",
    "drain s",
    "readings",
    "error ms p50, p95",
    "bias ms",
    "error p50, p95",
    "place bias",
    "place p50, p95",
  ];
  console.log(table(heads, await withChildren((children) => run(children, parseSettings(values.set)))));
}
