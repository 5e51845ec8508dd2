import { expect, test } from "bun:test";
import fc from "fast-check";
import { nextWait, type WaitAsked, waitedInVain } from "./model-wait.ts";

const created = 1_700_000_000_000;
const job = { created };
const asked: WaitAsked = {
  before: null,
  attempt: 1,
  startedAtMs: created,
  nowMs: created + 20,
  waitMsMax: 600_000,
  retryAfterMs: 0,
  random: 0.5,
};
const delayAt = (tries: number, more: Partial<WaitAsked> = {}): number | undefined =>
  nextWait(job, { ...asked, before: { sinceMs: created, tries }, ...more })?.delayMs;

test("the waits grow from one second to thirty, half of each by chance", () => {
  expect([0, 1, 2, 3, 4, 5, 60].map((tries) => delayAt(tries))).toEqual([
    750, 1_500, 3_000, 6_000, 12_000, 22_500, 22_500,
  ]);
  expect([0, 0.999_999].map((random) => delayAt(5, { random }))).toEqual([15_000, 30_000]);
});

test("a server is left alone for as long as it asks, up to half a minute, and not by all until the same moment", () => {
  expect(delayAt(0, { retryAfterMs: 7_000, random: 0 })).toBe(7_000);
  expect(delayAt(0, { retryAfterMs: 7_000, random: 0.5 })).toBe(7_250);
  expect(delayAt(0, { retryAfterMs: 3_600_000, random: 0 })).toBe(30_000);
});

test("a row of tries is counted from the beginning of its first", () => {
  const first = nextWait(job, asked)?.waiting;
  expect(first).toEqual({ sinceMs: created, tries: 1 });
  const later = { ...asked, startedAtMs: created + 5_000, nowMs: created + 5_000 };
  expect(nextWait(job, { ...later, before: first ?? null })?.waiting).toEqual({ sinceMs: created, tries: 2 });
});

test("it ends by the setting, by the task's deadline, or by the time that its request gives an attempt", () => {
  const at = (afterMs: number, more: object = {}) =>
    nextWait({ ...job, ...more }, { ...asked, before: { sinceMs: created, tries: 9 }, nowMs: created + afterMs });
  expect(at(595_000)).toMatchObject({ delayMs: 5_000, leftMs: 5_000 }); // the last try comes when the time is up
  expect([at(599_990), at(600_000), at(900_000)]).toEqual([null, null, null]);
  expect([at(59_000, { timeoutMs: 60_000 })?.delayMs, at(60_000, { timeoutMs: 60_000 })]).toEqual([1_000, null]);
  const startBy = created + 9_000;
  expect([at(8_000, { startBy })?.delayMs, at(9_000, { startBy })]).toEqual([1_000, null]);
  const second = { ...asked, attempt: 2, nowMs: created + 9_000, before: null };
  expect(nextWait({ ...job, startBy }, second)).not.toBeNull(); // it was started in time, by its first attempt
});

test("whatever is asked, no wait is beyond the limit, and nobody waits less than half a second while there is time", () => {
  const number = (max: number) => fc.integer({ min: 0, max });
  fc.assert(
    fc.property(
      number(3_000),
      number(700_000),
      number(100_000),
      number(999),
      (tries, afterMs, retryAfterMs, random) => {
        const before = { sinceMs: created, tries };
        const next = nextWait(job, {
          ...asked,
          before,
          nowMs: created + afterMs,
          retryAfterMs,
          random: random / 1_000,
        });
        if (next === null) return expect(afterMs).toBeGreaterThan(asked.waitMsMax - 50);
        expect(next.delayMs).toBeLessThanOrEqual(Math.min(45_000, asked.waitMsMax - afterMs));
        expect(next.delayMs).toBeGreaterThanOrEqual(Math.min(500, next.leftMs));
      },
    ),
  );
});

test("the end says how long it was, behind what was missed", () => {
  const error = { code: "model_overloaded", message: "The model has no room.", stage: "infer", retryable: true };
  expect(waitedInVain(error, created, created + 61_234)).toEqual({
    ...error,
    message: "The model has no room. The task waited for 61.2 s.",
    retryable: false,
  });
  expect(waitedInVain({ ...error, message: "full" }, created + 5, created).message).toBe(
    "full. The task waited for 0 s.",
  );
});
