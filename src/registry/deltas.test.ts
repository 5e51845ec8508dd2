import { expect, test } from "bun:test";
import { createDeltas } from "./deltas.ts";
import type { Schedule } from "./progress.ts";

/** Deltas on a clock that moves only when told; `left` is what has been sent. */
function onFakeTime() {
  let nowMs = 1_000;
  let due: { readonly atMs: number; readonly run: () => void }[] = [];
  const schedule: Schedule = (ms, run) => {
    const timer = { atMs: nowMs + ms, run };
    due.push(timer);
    return () => {
      due = due.filter((other) => other !== timer);
    };
  };
  const left: unknown[] = [];
  const clock = { now: () => nowMs, monotonicMs: () => nowMs };
  const deltas = createDeltas((json) => left.push(JSON.parse(json)), clock, schedule);
  const advance = (ms: number): void => {
    nowMs += ms;
    for (const timer of due.filter(({ atMs }) => atMs <= nowMs)) timer.run();
  };
  return { deltas, left, advance, timers: () => due.length };
}

const join = (earlier: unknown, later: unknown): unknown =>
  typeof earlier === "string" && typeof later === "string" ? earlier + later : null;

test("the first leaves at once, those of 50 ms as one, and none is lost", () => {
  const { deltas, left, advance, timers } = onFakeTime();
  const words = Array.from({ length: 1_000 }, (_, i) => `${i} `);
  for (const word of words) {
    deltas.send(word, join);
    if (word === "0 ") expect(left).toEqual(["0 "]);
    advance(1);
  }
  deltas.end();
  expect(left.join("")).toBe(words.join(""));
  expect(left.length).toBeGreaterThanOrEqual(20);
  expect(left.length).toBeLessThanOrEqual(21);
  expect(timers()).toBe(0);
});

test("a slow model's tokens wait for nothing", () => {
  const { deltas, left, advance } = onFakeTime();
  for (let i = 1; i <= 10; i++) {
    deltas.send("x", join);
    expect(left.length).toBe(i);
    advance(50);
  }
});

test("what cannot be one, or may not be merged, keeps its place", () => {
  const { deltas, left, timers } = onFakeTime();
  deltas.send("a", join);
  deltas.send("b", join);
  deltas.send({ call: 1 }, join);
  deltas.send("c", join);
  deltas.send("now");
  expect(left).toEqual(["a", "b", { call: 1 }, "c", "now"]);
  expect(timers()).toBe(0);
});

test("merged deltas keep to the limit of one", () => {
  const { deltas, left } = onFakeTime();
  const half = "ü".repeat(8_000); // 16,000 bytes
  for (let i = 0; i < 5; i++) deltas.send(half, join);
  deltas.end();
  expect(left.map((delta) => String(delta).length)).toEqual([8_000, 16_000, 16_000]);
});

test("a merge that makes no JSON fails where it is called, and not in a timer", () => {
  const { deltas, left, advance } = onFakeTime();
  const broken = (): unknown => 1n;
  deltas.send("a", broken);
  deltas.send("b", broken);
  expect(() => deltas.send("c", broken)).toThrow("emit(delta) takes a JSON value");
  advance(100);
  expect(left).toEqual(["a", "b"]);
});
