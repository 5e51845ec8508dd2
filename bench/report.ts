// Turns the results of rounds into Markdown: medians with their spread, ratios taken within each round, CPU and memory
// by process. Used by tasks.ts and compare.ts, or by hand on a results file: `bun bench/report.ts FILE`.
import { readFileSync } from "node:fs";
import type { PhaseReport } from "./load.ts";
import type { PhaseName } from "./load-options.ts";
import type { RoundResult } from "./rounds.ts";
import { median } from "./statistics.ts";

interface Metric {
  readonly name: string;
  /** False for what is not a figure of merit and gets no ratio. */
  readonly compare: boolean;
  readonly of: (result: RoundResult) => number | undefined;
}

const metric = (name: string, of: Metric["of"], compare = true): Metric => ({ name, of, compare });

const inPhase =
  (phase: PhaseName, of: (report: PhaseReport) => number | undefined): Metric["of"] =>
  (result) => {
    const report = result.phases[phase];
    return report && of(report);
  };

const latencies = (
  label: string,
  phase: PhaseName,
  kind: "submit" | "e2e",
  quantiles: readonly ("p50" | "p95" | "p99")[],
) =>
  quantiles.map((q) =>
    metric(
      `${label} ${q} ms`,
      inPhase(phase, (report) => report[kind]?.[q]),
    ),
  );

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

/** CPU milliseconds of all servers for one task. */
const serverCpuMs = (report: PhaseReport): number =>
  (sum(Object.entries(report.cpu_s).flatMap(([name, s]) => (name === "loadgen" ? [] : [s]))) / report.n) * 1000;

const serverMemory = (result: RoundResult, kind: "rss_mb" | "pss_mb"): number =>
  sum(Object.entries(result.processes).flatMap(([name, use]) => (name === "loadgen" ? [] : [use[kind]])));

const all = ["p50", "p95", "p99"] as const;
const metrics: readonly Metric[] = [
  ...latencies("one at a time: submit", "low", "submit", all),
  ...latencies("one at a time: end to end", "low", "e2e", all),
  ...latencies("one at a time, back-to-back polls: end to end", "tight", "e2e", all),
  metric(
    "closed, C=64: tasks/s",
    inPhase("closed", (report) => report.tasks_per_s),
  ),
  ...latencies("closed: submit", "closed", "submit", all),
  ...latencies("closed: end to end", "closed", "e2e", all),
  metric("closed: CPU ms a task, servers", inPhase("closed", serverCpuMs)),
  metric(
    "burst, C=64: submits/s",
    inPhase("burst", (report) => report.submits_per_s),
  ),
  metric(
    "burst: tasks/s",
    inPhase("burst", (report) => report.tasks_per_s),
  ),
  metric("burst: CPU ms a task, servers", inPhase("burst", serverCpuMs)),
  ...latencies("high behind low: end to end", "priority", "e2e", all),
  metric(
    "high behind low: time of all, s",
    inPhase("priority", (report) => report.high_s),
  ),
  metric(
    "backlog left before",
    inPhase("priority", (report) => report.left_before),
    false,
  ),
  metric(
    "backlog left after",
    inPhase("priority", (report) => report.left_after),
    false,
  ),
  metric("memory PSS MB, servers", (result) => serverMemory(result, "pss_mb")),
  metric("memory RSS MB, servers", (result) => serverMemory(result, "rss_mb")),
  metric("disk bytes a kept task", (result) => result.disk_bytes_per_task),
  metric("time to ready, ms", (result) => result.ready_ms ?? undefined, false),
  metric("errors", (result) => sum(Object.values(result.phases).map((report) => report.errors)), false),
  metric("refused for lack of room", (result) => sum(Object.values(result.phases).map((r) => r.rejected)), false),
  metric("stolen CPU, s", (result) => sum(Object.values(result.phases).map((report) => report.stolen_s)), false),
];

/** The pairs that are fair to compare: what is kept through a power cut against what is, and the rest against the rest. */
const pairs: readonly (readonly [string, string])[] = [
  ["ours-fast", "a"],
  ["ours-fast", "b"],
  ["ours", "a-durable"],
  ["ours", "b-durable"],
];

export function report(results: readonly RoundResult[]): string {
  const names = [...new Set(results.map((result) => result.target))].sort();
  const rounds = new Set(results.map((result) => result.round)).size;
  const of = (target: string): RoundResult[] => results.filter((result) => result.target === target);
  const head = `${rounds === 1 ? "One round" : `Median [least-most] of ${rounds} rounds`}`;
  const rows = metrics.map(({ name, of: read }) => [name, ...names.map((target) => cell(of(target).map(read)))]);
  return [
    [...new Set(results.map((result) => `- \`${result.target}\`: ${result.summary}`))].sort().join("\n"),
    head,
    table(
      ["metric", ...names],
      rows.filter((row) => row.slice(1).some((text) => text !== "-")),
    ),
    ...ratios(results),
    "CPU milliseconds a task, and memory at the end",
    table(
      ["target", "process", "closed", "burst", "RSS MB", "PSS MB"],
      names.flatMap((name) => processRows(of(name))),
    ),
  ].join("\n\n");
}

/** Ratios of one target to another in the same round; below 1 is less. */
function ratios(results: readonly RoundResult[]): string[] {
  const present = new Set(results.map((result) => result.target));
  const shown = pairs.filter(([left, right]) => present.has(left) && present.has(right));
  if (shown.length === 0) return [];
  const rows = metrics
    .filter(({ compare }) => compare)
    .map(({ name, of }) => [name, ...shown.map(([left, right]) => cell(ratiosOf(results, left, right, of)))]);
  const columns = shown.map(([left, right]) => `${left} / ${right}`);
  return ["Ratios within each round, median [least-most]", table(["metric", ...columns], rows)];
}

function ratiosOf(results: readonly RoundResult[], left: string, right: string, of: Metric["of"]): number[] {
  return results
    .filter((result) => result.target === left)
    .flatMap((result) => {
      const other = results.find((candidate) => candidate.target === right && candidate.round === result.round);
      const [a, b] = [of(result), other && of(other)];
      return a === undefined || b === undefined ? [] : [a / b];
    });
}

function processRows(results: readonly RoundResult[]): string[][] {
  const names = [...new Set(results.flatMap((result) => Object.keys(result.processes)))];
  const cpuMs = (phase: PhaseName, name: string): string =>
    cell(results.map(inPhase(phase, (report) => ((report.cpu_s[name] ?? Number.NaN) / report.n) * 1000)));
  return names.map((name) => [
    results[0]?.target ?? "",
    name,
    cpuMs("closed", name),
    cpuMs("burst", name),
    cell(results.map((result) => result.processes[name]?.rss_mb)),
    cell(results.map((result) => result.processes[name]?.pss_mb)),
  ]);
}

function cell(samples: readonly (number | undefined)[]): string {
  const known = samples.filter((sample): sample is number => sample !== undefined && Number.isFinite(sample));
  if (known.length === 0) return "-";
  if (known.length === 1) return number(median(known));
  return `${number(median(known))} [${number(Math.min(...known))}-${number(Math.max(...known))}]`;
}

function number(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), `|${head.map(() => "---").join("|")}|`, ...rows.map(line)].join("\n");
}

if (import.meta.main) {
  const [file] = process.argv.slice(2);
  if (file === undefined) throw new Error("usage: bun bench/report.ts FILE");
  const lines = readFileSync(file, "utf8").trim().split("\n");
  console.log(report(lines.map((line) => JSON.parse(line) as RoundResult)));
}
