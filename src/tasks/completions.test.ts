import { expect, test } from "bun:test";
import type { Clock } from "../clock.ts";
import { createCompletions } from "./completions.ts";

function start() {
  let ms = 1_700_000_000_000;
  const clock: Clock = { now: () => ms, monotonicMs: () => ms };
  const completions = createCompletions(clock);
  const ended = (inferMs: number, priority = "normal", lateMs = 0): void => {
    const timing = { queue_ms: 9_999, prepare_ms: 1, infer_ms: inferMs, postprocess_ms: 2.5, upload_ms: 9_999 };
    const data = { task_id: "t", status: "SUCCESS", model: "m", priority, attempt: 1, actor: null, timing, result: {} };
    completions.heard("m", JSON.stringify(data), ms - lateMs);
  };
  const advance = (byMs: number): void => {
    ms += byMs;
  };
  return { completions, ended, advance };
}

test("counts ends of the window, by priority, and no older ones", () => {
  const { completions, ended, advance } = start();
  advance(60_000);
  ended(10);
  ended(10, "high");
  advance(10_000);
  ended(10);
  expect(completions.count("m", 5_000)).toMatchObject({ ended: 1 });
  expect(completions.count("m", 30_000)).toMatchObject({ ended: 3 });
  expect(completions.count("m", 30_000, "high")).toMatchObject({ ended: 1 });
  expect(completions.count("other", 30_000)).toMatchObject({ ended: 0 });
  expect(completions.total("m")).toBe(3);
  advance(120_000);
  expect(completions.count("m", 60_000)).toMatchObject({ ended: 0 });
});

test("says how much time it looked at: never more than the gateway has lived", () => {
  const { completions, advance } = start();
  advance(1_000);
  expect(completions.count("m", 30_000).ms).toBeLessThanOrEqual(1_000);
  advance(100_000);
  const { ms } = completions.count("m", 30_000);
  expect(ms).toBeGreaterThan(29_000);
  expect(ms).toBeLessThanOrEqual(30_000);
});

test("a time of old counts for the mean and not for the rate", () => {
  const { completions, ended, advance } = start();
  advance(60_000);
  expect(completions.serviceMs("m")).toBeNull();
  ended(100, "normal", 3_600_000);
  expect(completions.count("m", 30_000).ended).toBe(0);
  expect(completions.serviceMs("m")).toBe(103.5);
});

test("the mean follows: slowly within a stream of tasks, quickly after a pause", () => {
  const { completions, ended, advance } = start();
  for (let i = 0; i < 100; i++) {
    ended(100);
    advance(250);
  }
  expect(completions.serviceMs("m")).toBeCloseTo(103.5);
  ended(1_100);
  expect(completions.serviceMs("m")).toBeCloseTo(153.5);
  advance(2_000);
  ended(1_153.5 - 3.5);
  expect(completions.serviceMs("m")).toBeCloseTo(153.5 + 1_000 / 3);
});

test("a result that looks like timing changes nothing", () => {
  const { completions } = start();
  const forged = '{"queue_ms":1,"prepare_ms":7,"infer_ms":7,"postprocess_ms":7}';
  completions.heard(
    "m",
    `{"task_id":"t","priority":"low","timing":null,"pad":"${"x".repeat(600)}","timing":${forged}}`,
    0,
  );
  expect(completions.serviceMs("m")).toBeNull();
});
