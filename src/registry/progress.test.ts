import { expect, test } from "bun:test";
import { createProgress, type Schedule } from "./progress.ts";

/** Time that moves only when told. */
function fakeTime() {
  let nowMs = 1_000;
  const due: { atMs: number; run: () => void }[] = [];
  const schedule: Schedule = (ms, run) => {
    const timer = { atMs: nowMs + ms, run };
    due.push(timer);
    return () => void (due.includes(timer) && due.splice(due.indexOf(timer), 1));
  };
  const advance = (ms: number): void => {
    nowMs += ms;
    for (const timer of due.filter((candidate) => candidate.atMs <= nowMs)) {
      due.splice(due.indexOf(timer), 1);
      timer.run();
    }
  };
  return { clock: { now: () => nowMs, monotonicMs: () => nowMs }, schedule, advance, due };
}

test("ten a second, the last one kept", () => {
  const time = fakeTime();
  const seen: number[] = [];
  const progress = createProgress((fraction) => seen.push(fraction), time.clock, time.schedule);
  for (let i = 1; i <= 1_000; i++) {
    progress.report(i / 1_000);
    time.advance(1);
  }
  expect(seen.length).toBeGreaterThanOrEqual(10);
  expect(seen.length).toBeLessThanOrEqual(11);
  progress.end();
  expect(seen.at(-1)).toBe(1);
  expect(time.due).toHaveLength(0);
});

test("after the end nothing is sent and no timer left", () => {
  const time = fakeTime();
  const seen: [number, string | undefined][] = [];
  const progress = createProgress((fraction, message) => seen.push([fraction, message]), time.clock, time.schedule);
  progress.report(0.1, "first");
  progress.report(0.2, "held");
  progress.end();
  progress.report(0.3);
  expect(seen).toEqual([
    [0.1, "first"],
    [0.2, "held"],
  ]);
  expect(time.due).toHaveLength(0);
});

test("fractions are cut to 0..1, nonsense is dropped", () => {
  const time = fakeTime();
  const seen: number[] = [];
  const progress = createProgress((fraction) => seen.push(fraction), time.clock, time.schedule);
  for (const fraction of [-1, 7, Number.NaN, "x" as unknown as number]) {
    progress.report(fraction);
    time.advance(200);
  }
  expect(seen).toEqual([0, 1]);
});
