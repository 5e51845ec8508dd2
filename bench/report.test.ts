import { expect, test } from "bun:test";
import { processName, processUse } from "./processes.ts";
import { report } from "./report.ts";
import type { RoundResult } from "./rounds.ts";

function result(target: string, round: number, tasksPerS: number): RoundResult {
  const latency = { p50: 1, p95: 2, p99: 3, max: 4 };
  const costs = { polls: 10, rejected: 0, errors: 0, stolen_s: 0, cpu_s: { http: 2, loadgen: 9 } };
  return {
    target,
    summary: target,
    round,
    at: "2026-01-01T00:00:00.000Z",
    phases: { closed: { n: 1_000, wall_s: 1, tasks_per_s: tasksPerS, submit: latency, e2e: latency, ...costs } },
    processes: {
      http: { cpu_s: 2, rss_mb: 50, pss_mb: 40, processes: 1 },
      loadgen: { cpu_s: 9, rss_mb: 60, pss_mb: 30, processes: 1 },
    },
    tasks: 1_000,
    disk_bytes_per_task: 600,
    disk_bytes_per_task_by_folder: { data: 600 },
    ready_ms: null,
    error_texts: [],
  };
}

const rowOf = (text: string, start: string): string[] =>
  text.split("\n").filter((line) => line.startsWith(`| ${start} |`));

test("ratios are taken within a round, not of the medians", () => {
  // Between the rounds the machine became four times slower; the ratio of the medians would be 3.
  const text = report([
    ...[result("ours-fast", 1, 8_000), result("b", 1, 4_000)],
    ...[result("ours-fast", 2, 2_000), result("b", 2, 1_000)],
    ...[result("ours-fast", 3, 6_000), result("b", 3, 2_000)],
  ]);
  expect(rowOf(text, "closed, C=64: tasks/s")).toEqual([
    "| closed, C=64: tasks/s | 2,000 [1,000-4,000] | 6,000 [2,000-8,000] |",
    "| closed, C=64: tasks/s | 2.00 [2.00-3.00] |",
  ]);
});

test("the load generator's CPU and memory are not the servers'", () => {
  const text = report([result("b", 1, 1_000)]);
  expect(rowOf(text, "closed: CPU ms a task, servers")).toEqual(["| closed: CPU ms a task, servers | 2.00 |"]);
  expect(rowOf(text, "memory PSS MB, servers")).toEqual(["| memory PSS MB, servers | 40.0 |"]);
});

test("processes are named by what they are", () => {
  expect(processName(["/opt/bun", "/app/src/main.ts", "gateway"], 7)).toBe("gateway");
  expect(processName(["bun", "src/main.ts", "actor", "--gpu", "1"], 8)).toBe("actor-1");
  expect(processName(["/x/nats-server", "-c", "server.conf"], 9)).toBe("nats");
  expect(processName(["sh", "-c", "gateway"], 10)).toBeNull();
  expect(processName(["/usr/bin/python3", "x"], 11)).toBe("python3-11");
});

test.skipIf(process.platform !== "linux")("a process that is named itself is not counted with its parent", async () => {
  const child = Bun.spawn(["cat"], { stdin: "pipe", stdout: "ignore" });
  try {
    const together = processUse({ self: process.pid }).self;
    const apart = processUse({ self: process.pid, cat: child.pid });
    expect(apart.cat?.processes).toBe(1);
    expect(apart.self?.processes).toBe((together?.processes ?? 0) - 1);
    expect(apart.self?.rss_mb).toBeGreaterThan(1);
  } finally {
    await child.stdin.end();
    await child.exited;
  }
});
