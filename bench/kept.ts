// Shows what a kept task costs, and that nothing grows once the number kept is constant: `bun bench/kept.ts`. Tasks
// arrive in equal rounds while a short TASK_TTL lets as many go; after each round the broker's own counts, the memory of
// every process and the disk are read. Ends with an error code when something kept growing.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Children, withChildren } from "./children.ts";
import { parseSettings } from "./compare.ts";
import { diskUse, runFolder, totalOf } from "./home.ts";
import { processUse } from "./processes.ts";
import { table } from "./report.ts";
import { generateLoad } from "./running.ts";
import { startStack } from "./stack.ts";
import { round } from "./statistics.ts";

interface Options {
  readonly rounds: number;
  readonly roundS: number;
  readonly roundTasks: number;
  readonly ttlS: number;
  readonly settings: Readonly<Record<string, string>>;
}

/** The state after a round. */
export interface Sample {
  readonly submitted: number;
  /** Messages in the logs of requests and of results. */
  readonly jobs: number;
  readonly results: number;
  readonly diskMb: number;
  readonly rssMb: Readonly<Record<string, number>>;
}

async function run(options: Options, children: Children): Promise<Sample[]> {
  const folder = runFolder("kept");
  const ttl = `${options.ttlS}s`;
  const settings = { DURABILITY: "fast", TASK_TTL: ttl, HISTORY_TTL: ttl, ...options.settings };
  const stack = await startStack(folder, children, { model: "echo", settings });
  const dataDir = join(folder, "data");
  const samples = [await sample(dataDir, stack.processes, 0)];
  for (let i = 1; i <= options.rounds; i++) {
    const endMs = performance.now() + options.roundS * 1000;
    const counts = ["--phases", "burst", "--warm-n", "0", "--burst-n", `${options.roundTasks}`];
    const { error_texts } = await generateLoad(stack, folder, counts);
    if (error_texts.length > 0) throw new Error(error_texts.join("; "));
    const spareMs = endMs - performance.now();
    if (spareMs < 0) throw new Error(`${options.roundTasks} tasks take longer than a round of ${options.roundS} s`);
    await Bun.sleep(spareMs);
    const taken = await sample(dataDir, stack.processes, i * options.roundTasks);
    console.error(JSON.stringify(taken));
    samples.push(taken);
  }
  return samples;
}

async function sample(
  dataDir: string,
  processes: Readonly<Record<string, number>>,
  submitted: number,
): Promise<Sample> {
  const messages = await storedMessages(dataDir);
  const count = (prefix: string): number =>
    Object.entries(messages).reduce((sum, [name, stored]) => (name.startsWith(prefix) ? sum + stored : sum), 0);
  const use = Object.entries(processUse(processes));
  return {
    submitted,
    jobs: count("JOBS"),
    results: count("RESULTS"),
    diskMb: round(totalOf(diskUse(dataDir)) / 2 ** 20, 1),
    rssMb: Object.fromEntries(use.map(([name, { rss_mb }]) => [name, rss_mb])),
  };
}

/** Stream → messages, from the broker's monitoring page; its address is in the ports file that the broker writes. */
async function storedMessages(dataDir: string): Promise<Record<string, number>> {
  const portsDir = join(dataDir, "nats", "ports");
  const [file = ""] = readdirSync(portsDir);
  const ports = JSON.parse(readFileSync(join(portsDir, file), "utf8")) as { monitoring: string[] };
  const page = new URL("/jsz?streams=true", ports.monitoring[0]);
  const answer = (await (await fetch(page, { signal: AbortSignal.timeout(5_000) })).json()) as {
    account_details?: { stream_detail?: { name: string; state: { messages: number } }[] }[];
  };
  const streams = (answer.account_details ?? []).flatMap((account) => account.stream_detail ?? []);
  return Object.fromEntries(streams.map(({ name, state }) => [name, state.messages]));
}

/**
 * By what share a series grew from its second quarter (the number kept is constant by then, if TASK_TTL is a fifth of
 * the run or less) to its last: the means, so that a block that has just been written does not count as growth.
 */
export function growth(series: readonly number[]): number {
  const quarter = Math.floor(series.length / 4);
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  return mean(series.slice(-quarter)) / mean(series.slice(quarter, 2 * quarter)) - 1;
}

/** More than this between the quarters is growth and not noise. */
const GROWTH_MAX = 0.1;

function report(samples: readonly Sample[], options: Options): boolean {
  const names = Object.keys(samples[0]?.rssMb ?? {});
  const rows = samples.map((each) => [
    ...[each.submitted, each.jobs, each.results, each.diskMb].map(String),
    ...names.map((name) => `${each.rssMb[name]}`),
  ]);
  console.log(
    table(["submitted", "jobs kept", "results kept", "disk MB", ...names.map((name) => `${name} RSS MB`)], rows),
  );
  const after = samples.slice(1);
  const series: [string, number[]][] = [
    ["results kept", after.map((each) => each.results)],
    ["disk", after.map((each) => each.diskMb)],
    ...names.map((name): [string, number[]] => [`${name} RSS`, after.map((each) => each.rssMb[name] ?? 0)]),
  ];
  const grown = series.map(([name, values]): [string, number] => [name, growth(values)]);
  for (const [name, share] of grown)
    console.log(`${name}: ${round(share * 100, 1)}% from the second quarter to the last`);
  const [first, last] = [samples[0], samples.at(-1)];
  if (first && last && last.results > 0) {
    const bytes = ((last.diskMb - first.diskMb) * 2 ** 20) / last.results;
    console.log(`${last.results} kept with TASK_TTL=${options.ttlS}s; ${Math.round(bytes)} bytes on disk a kept task`);
  }
  return grown.every(([, share]) => share <= GROWTH_MAX);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "24" },
      "round-s": { type: "string", default: "5" },
      "round-n": { type: "string", default: "5000" },
      "ttl-s": { type: "string", default: "20" },
      set: { type: "string", multiple: true, default: [] },
    },
  });
  const options: Options = {
    rounds: Number(values.rounds),
    roundS: Number(values["round-s"]),
    roundTasks: Number(values["round-n"]),
    ttlS: Number(values["ttl-s"]),
    settings: parseSettings(values.set),
  };
  const samples = await withChildren((children) => run(options, children));
  if (!report(samples, options)) process.exitCode = 1;
}
