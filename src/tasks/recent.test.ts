import { expect, test } from "bun:test";
import type { Clock } from "../clock.ts";
import { createRecent } from "./recent.ts";

function start(tookMs = 0) {
  let ms = 0;
  let loads = 0;
  const clock: Clock = { now: () => ms, monotonicMs: () => ms };
  let broken = false;
  const recent = createRecent(clock, async () => {
    ms += tookMs;
    if (broken) throw new Error("broken");
    return ++loads;
  });
  return {
    recent,
    advance: (byMs: number) => {
      ms += byMs;
    },
    breakDown: () => {
      broken = true;
    },
  };
}

test("the first waits, with all others who ask; then a second's age is good enough", async () => {
  const { recent, advance } = start();
  expect(await Promise.all([recent.get(), recent.get()])).toEqual([1, 1]);
  advance(1_000);
  expect(recent.get()).toBe(1);
});

test("behind an answer it is loaded anew; after a long pause one waits again", async () => {
  const { recent, advance } = start();
  await recent.get();
  advance(1_500);
  expect(recent.get()).toBe(1);
  await Promise.resolve();
  expect(await recent.get()).toBe(2);
  advance(60_000);
  expect(recent.get()).toBeInstanceOf(Promise);
  expect(await recent.get()).toBe(3);
});

test("a load that takes long is repeated less often", async () => {
  const { recent, advance } = start(200);
  await recent.get();
  advance(3_500);
  expect(recent.get()).toBe(1);
  recent.hurry();
  await Promise.resolve();
  expect(recent.get()).toBe(1);
});

test("hurry loads at once, but not again and again", async () => {
  const { recent, advance } = start();
  await recent.get();
  advance(50);
  recent.hurry();
  await Promise.resolve();
  await Promise.resolve();
  expect(recent.get()).toBe(1);
  advance(51);
  recent.hurry();
  await Promise.resolve();
  await Promise.resolve();
  expect(recent.get()).toBe(2);
});

test("a failure reaches who waits, and the next one tries again", async () => {
  const { recent, advance, breakDown } = start();
  await recent.get();
  breakDown();
  advance(1_500);
  expect(recent.get()).toBe(1);
  advance(60_000);
  await expect(Promise.resolve(recent.get())).rejects.toThrow("broken");
});
