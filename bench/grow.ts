// Shows that a task costs the same however many are stored: `bun bench/grow.ts`. Fills one installation decade by decade
// up to a million ended tasks, all of them kept in the logs and in SQL; at each decade it measures submits one at a time
// and under load, the memory of every process, and a page of the list. The run takes about ten minutes.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Children, withChildren } from "./children.ts";
import { parseSettings } from "./compare.ts";
import { diskUse, runFolder, totalOf } from "./home.ts";
import type { LoadReport } from "./load.ts";
import { processUse } from "./processes.ts";
import { table } from "./report.ts";
import { generateLoad, type Running } from "./running.ts";
import { startStack } from "./stack.ts";
import { quantiles, round } from "./statistics.ts";

/** What one load may submit: a load has a time limit (running.ts). */
const FILL_TASKS_MAX = 100_000;
const PROBE = ["--phases", "tight,closed,burst", "--tight-n", "500", "--closed-n", "10000", "--burst-n", "10000"];
const PROBE_TASKS = 500 + 10_000 + 10_000;
const LIST_CALLS = 20;

interface Row {
  readonly stored: number;
  readonly load: LoadReport;
  readonly listMs: number;
  readonly rssMb: Readonly<Record<string, number>>;
  readonly diskMb: number;
}

async function run(decades: readonly number[], settings: Record<string, string>, children: Children): Promise<Row[]> {
  const folder = runFolder("grow");
  const stack = await startStack(folder, children, { model: "echo", settings });
  const rows: Row[] = [];
  let stored = 0;
  for (const decade of decades) {
    while (stored < decade) {
      const count = Math.min(FILL_TASKS_MAX, decade - stored);
      const flags = ["--phases", "burst", "--warm-n", "0", "--burst-n", `${count}`];
      failOn(await generateLoad(stack, folder, flags));
      stored += count;
      children.check();
    }
    const load = await generateLoad(stack, folder, [...PROBE, "--warm-n", stored === 0 ? "2000" : "200"]);
    failOn(load);
    const use = Object.entries(processUse(stack.processes));
    const row: Row = {
      stored,
      load,
      listMs: await listMs(stack),
      rssMb: Object.fromEntries(use.map(([name, { rss_mb }]) => [name, rss_mb])),
      diskMb: round(totalOf(diskUse(join(folder, "data"))) / 2 ** 20, 0),
    };
    console.error(JSON.stringify(row));
    rows.push(row);
    stored += PROBE_TASKS;
  }
  return rows;
}

function failOn({ error_texts }: LoadReport): void {
  if (error_texts.length > 0) throw new Error(error_texts.join("; "));
}

/** Median milliseconds of the newest page of a hundred tasks. */
async function listMs({ base, key }: Running): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < LIST_CALLS; i++) {
    const startMs = performance.now();
    const answer = await fetch(`${base}/v1/tasks?limit=100`, { headers: { "x-api-key": key } });
    const { data } = (await answer.json()) as { data: unknown[] };
    if (data.length === 0) throw new Error(`the list is empty: ${answer.status}`);
    times.push(performance.now() - startMs);
  }
  return quantiles(times).p50;
}

function print(rows: readonly Row[]): void {
  const names = Object.keys(rows[0]?.rssMb ?? {});
  const heads = [
    "stored",
    "submit p50, p99 ms",
    "closed/s",
    "burst/s",
    "list ms",
    ...names.map((name) => `${name} MB`),
  ];
  const lines = rows.map(({ stored, load, listMs, rssMb, diskMb }) => {
    const { tight, closed, burst } = load.phases;
    return [
      `${stored}`,
      `${tight?.submit.p50}, ${tight?.submit.p99}`,
      `${closed?.tasks_per_s}`,
      `${burst?.tasks_per_s}`,
      `${round(listMs, 1)}`,
      ...names.map((name) => `${rssMb[name]}`),
      `${diskMb}`,
    ];
  });
  console.log(table([...heads, "disk MB"], lines));
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      decades: { type: "string", default: "0,1000,10000,100000,1000000" },
      set: { type: "string", multiple: true, default: [] },
    },
  });
  const settings = { DURABILITY: "fast", ...parseSettings(values.set) };
  print(await withChildren((children) => run(values.decades.split(",").map(Number), settings, children)));
}
