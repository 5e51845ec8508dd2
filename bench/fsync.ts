// Counts the fsyncs that a task costs, per process and per number of partitions, with strace (Linux, as root or with
// CAP_SYS_PTRACE): `bun bench/fsync.ts`. strace slows the processes down, so no time of this run is a result.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Children, until, withChildren } from "./children.ts";
import { parseSettings } from "./compare.ts";
import { runFolder } from "./home.ts";
import { table } from "./report.ts";
import { generateLoad } from "./running.ts";
import { startStack } from "./stack.ts";
import { round } from "./statistics.ts";

interface Counted {
  readonly calls: number;
  /** Mean wall time of a call, microseconds; NaN without a call. */
  readonly meanUs: number;
}

const IDLE_S = 5;
const ATTACH = { timeoutMs: 20_000, everyMs: 20 };

async function countPartitions(partitions: string, tasks: number, settings: readonly string[], children: Children) {
  const folder = runFolder(`fsync-${partitions}`);
  try {
    const stack = await startStack(folder, children, {
      model: "echo",
      settings: { ...parseSettings(settings), PARTITIONS: partitions },
    });
    const flags = ["--phases", "closed", "--warm-n", "0"];
    await generateLoad(stack, folder, [...flags, "--closed-n", "200"]); // consumers and files are made by the first tasks
    const idle = await traced(stack.processes, folder, "idle", children, () => Bun.sleep(IDLE_S * 1000));
    const busy = await traced(stack.processes, folder, "busy", children, async () => {
      const { error_texts } = await generateLoad(stack, folder, [...flags, "--closed-n", `${tasks}`]);
      if (error_texts.length > 0) throw new Error(error_texts.join("; "));
    });
    return Object.keys(stack.processes).map((name) => {
      const [atRest, atWork] = [idle[name] ?? none, busy[name] ?? none];
      const perTask = round(atWork.calls / tasks, 3);
      return [
        partitions,
        name,
        `${atWork.calls}`,
        `${perTask}`,
        `${round(atWork.meanUs, 0)}`,
        `${round(atRest.calls / IDLE_S, 1)}`,
      ];
    });
  } finally {
    await children.stop();
  }
}

/** Runs `work` with an strace on each process, and reads their counts. */
async function traced(
  processes: Readonly<Record<string, number>>,
  folder: string,
  label: string,
  children: Children,
  work: () => Promise<void>,
): Promise<Record<string, Counted>> {
  const names = Object.keys(processes);
  const file = (name: string): string => join(folder, `strace-${label}-${name}`);
  const tracers = names.map((name) => {
    const counting = ["-f", "-c", "-w", "-e", "trace=fsync,fdatasync,sync_file_range", "-o", `${file(name)}.txt`];
    const command = ["strace", ...counting, "-p", `${processes[name]}`];
    return children.start(`strace-${label}-${name}`, command, { folder, env: {} });
  });
  const attached = async (): Promise<boolean> =>
    names.every((name) => readFileSync(`${file(name)}.log`, "utf8").includes("attached"));
  await until("strace", attached, { children, ...ATTACH });
  await work();
  await children.end(tracers, "SIGINT"); // detaches, and writes the summary
  return Object.fromEntries(names.map((name) => [name, parseSummary(readFileSync(`${file(name)}.txt`, "utf8"))]));
}

const none: Counted = { calls: 0, meanUs: Number.NaN };

/** The total of `strace -c -w`: columns % time, seconds, usecs/call, calls, errors, syscall. */
export function parseSummary(text: string): Counted {
  let [calls, seconds] = [0, 0];
  for (const line of text.split("\n")) {
    const row = /^ *[\d.]+ +([\d.]+) +\d+ +(\d+) +(?:\d+ +)?(?:fsync|fdatasync|sync_file_range)$/.exec(line);
    if (row === null) continue;
    seconds += Number(row[1]);
    calls += Number(row[2]);
  }
  return { calls, meanUs: (seconds / calls) * 1e6 };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      tasks: { type: "string", default: "3000" },
      partitions: { type: "string", default: "1,2,4,8" },
      set: { type: "string", multiple: true, default: [] },
    },
  });
  const rows: string[][] = [];
  await withChildren(async (children) => {
    for (const partitions of values.partitions.split(",")) {
      rows.push(...(await countPartitions(partitions, Number(values.tasks), values.set, children)));
    }
  });
  console.log(table(["partitions", "process", "fsyncs", "a task", "mean µs", "a second at rest"], rows));
}
