// Runs targets in rounds, interleaved, so that a ratio within a round compares the same minutes of the same machine.
// Used by tasks.ts and compare.ts. One system at a time: each is started fresh, loaded by a process of its own, stopped.
import { appendFileSync } from "node:fs";
import type { Children } from "./children.ts";
import { diskUse, resultsFile, runFolder, totalOf } from "./home.ts";
import type { PhaseReport } from "./load.ts";
import type { PhaseName } from "./load-options.ts";
import { isAlive, type ProcessUse } from "./processes.ts";
import { generateLoad, type Running } from "./running.ts";
import { round as rounded } from "./statistics.ts";
import type { Boot, Target } from "./targets.ts";

/** One target in one round: a line of the results file. */
export interface RoundResult {
  readonly target: string;
  readonly summary: string;
  readonly round: number;
  /** RFC 3339. */
  readonly at: string;
  readonly phases: Readonly<Partial<Record<PhaseName, PhaseReport>>>;
  /** Use of each process when the first boot's last phase had ended. */
  readonly processes: Readonly<Record<string, ProcessUse>>;
  /** Tasks that the first boot had taken by then; each is kept, with its result. */
  readonly tasks: number;
  /** Bytes allocated on disk for each of those tasks, in all and by folder. */
  readonly disk_bytes_per_task: number;
  readonly disk_bytes_per_task_by_folder: Readonly<Record<string, number>>;
  readonly ready_ms: number | null;
  readonly error_texts: readonly string[];
}

export interface RoundsOptions {
  readonly rounds: number;
  /** Multiplies the number of tasks of every phase but the backlog's: 0.1 for a quick look. */
  readonly scale: number;
  /** Further flags of load.ts. */
  readonly loadFlags: readonly string[];
  /** What is running now; empty between two boots. The caller stops it when it is interrupted. */
  readonly children: Children;
}

export async function runRounds(targets: readonly Target[], options: RoundsOptions): Promise<RoundResult[]> {
  const results: RoundResult[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    // Another target comes first in each round, so that none always follows the same one.
    const first = (round - 1) % targets.length;
    for (const target of [...targets.slice(first), ...targets.slice(0, first)]) {
      console.error(`round ${round} of ${options.rounds}: ${target.name}`);
      const result = await measure(target, round, options);
      appendFileSync(resultsFile(), `${JSON.stringify(result)}\n`);
      results.push(result);
    }
  }
  return results;
}

async function measure(target: Target, round: number, options: RoundsOptions): Promise<RoundResult> {
  const parts: RoundResult[] = [];
  for (const boot of target.boots) parts.push(await measureBoot(target, boot, round, options));
  const [first] = parts;
  if (first === undefined) throw new Error(`${target.name} has nothing to run`);
  const phases = Object.assign({}, ...parts.map((part) => part.phases)) as RoundResult["phases"];
  return { ...first, phases, error_texts: parts.flatMap((part) => part.error_texts) };
}

async function measureBoot(target: Target, boot: Boot, round: number, options: RoundsOptions): Promise<RoundResult> {
  const folder = runFolder(`${target.name}-${round}`);
  let running: Running | null = null;
  try {
    running = await boot.start(folder, options.children);
    const before = diskUse(folder);
    const report = await generateLoad(running, folder, [
      ...["--name", target.name, "--phases", boot.phases.join(",")],
      ...scaledCounts(options.scale),
      ...options.loadFlags,
    ]);
    options.children.check();
    const after = diskUse(folder);
    const perTask = (bytes: number): number => Math.round(bytes / report.submitted);
    return {
      target: target.name,
      summary: target.summary,
      round,
      at: new Date().toISOString(),
      phases: report.phases,
      processes: report.processes,
      tasks: report.submitted,
      disk_bytes_per_task: perTask(totalOf(after) - totalOf(before)),
      disk_bytes_per_task_by_folder: Object.fromEntries(
        Object.entries(after).map(([name, bytes]) => [name, perTask(bytes - (before[name] ?? 0))]),
      ),
      ready_ms: running.readyMs,
      error_texts: report.error_texts,
    };
  } finally {
    await options.children.stop();
    const left = Object.entries(running?.processes ?? {}).filter(([, pid]) => isAlive(pid));
    if (left.length > 0)
      console.error(`still alive after the stop: ${left.map((entry) => entry.join(" ")).join(", ")}`);
  }
}

function scaledCounts(scale: number): string[] {
  const counts = { low: 200, tight: 500, closed: 20_000, burst: 20_000 };
  return Object.entries(counts).flatMap(([name, count]) => [`--${name}-n`, `${rounded(count * scale, 0)}`]);
}
