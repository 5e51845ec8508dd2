import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ResultToken } from "../bus/subjects.ts";
import type { StoredResult } from "../tasks/commit.ts";
import type { EventRecord, TaskError } from "../tasks/records.ts";
import { CRASHES_MAX, judge } from "./history.ts";

const stored = (token: ResultToken): StoredResult => ({
  record: { token, taskId: "t", keyId: "k", fence: "f", eventId: "1.2", timeMs: 0, dataJson: "{}" },
  sequence: 77,
});
const error: TaskError = { code: "flaky", message: "it broke", stage: "infer", retryable: true };
const event = (fields: Partial<EventRecord>): EventRecord => ({
  v: 1,
  attempt: 1,
  n: 3,
  crashes: 0,
  event: "STARTED",
  data: fields.event === "RETRY" ? { error } : {},
  ...fields,
});
const anyEvent: fc.Arbitrary<EventRecord> = fc
  .record({
    attempt: fc.integer({ min: 1, max: 9 }),
    n: fc.nat({ max: 99 }),
    crashes: fc.nat({ max: 3 }),
    event: fc.constantFrom("STARTED", "RETRY", "progress", "delta", "log"),
  })
  .map(event);
const count = fc.integer({ min: 1, max: 9 });

describe("judge", () => {
  test("what has ended is never run again, whatever else is known", () => {
    const token = fc.constantFrom("success" as const, "failure" as const, "cancelled" as const);
    fc.assert(
      fc.property(token, fc.option(anyEvent), count, count, (end, last, delivered, attemptsMax) => {
        expect(judge(stored(end), last, delivered, attemptsMax)).toEqual({ kind: "ended" });
      }),
    );
  });

  test("a cancel marker ends the task as cancelled, after its last event", () => {
    fc.assert(
      fc.property(fc.option(anyEvent), count, (last, delivered) => {
        expect(judge(stored("cancelling"), last, delivered, 3)).toEqual({
          kind: "cancelled",
          markerSequence: 77,
          attempt: last?.attempt ?? 0,
          eventNumber: last?.n ?? 0,
        });
      }),
    );
  });

  test("an attempt is run at most max_attempts times, and never after two deaths of the process", () => {
    fc.assert(
      fc.property(anyEvent, count, count, (last, delivered, attemptsMax) => {
        const verdict = judge(null, last, delivered, attemptsMax);
        if (verdict.kind === "run") {
          expect(verdict.attempt).toBe(last.attempt + 1);
          expect(verdict.attempt).toBeLessThanOrEqual(attemptsMax);
          expect(verdict.crashes).toBeLessThan(CRASHES_MAX);
          expect(verdict.eventNumber).toBe(0);
        } else {
          expect(verdict.kind).toBe("failed");
          const died = last.crashes + (last.event === "RETRY" ? 0 : 1) >= CRASHES_MAX;
          expect(died || last.attempt >= attemptsMax).toBe(true);
          if (verdict.kind === "failed") {
            expect(verdict.error.retryable).toBe(false);
            expect({ attempt: verdict.attempt, n: verdict.eventNumber }).toEqual({ attempt: last.attempt, n: last.n });
            if (died) expect(verdict.error.code).toBe("poison");
          }
        }
      }),
    );
  });

  test.each([
    ["nothing known", null, 1, { kind: "run", attempt: 1, crashes: 0, eventNumber: 0 }],
    ["nothing known, delivered often", null, 256, { kind: "run", attempt: 1, crashes: 0, eventNumber: 0 }],
    ["retried", event({ event: "RETRY" }), 2, { kind: "run", attempt: 2, crashes: 0, eventNumber: 0 }],
    ["began, left no word", event({}), 2, { kind: "run", attempt: 2, crashes: 1, eventNumber: 0 }],
    ["spoke, left no word", event({ event: "delta" }), 2, { kind: "run", attempt: 2, crashes: 1, eventNumber: 0 }],
    [
      "its death was told",
      event({ event: "RETRY", crashes: 1 }),
      2,
      { kind: "run", attempt: 2, crashes: 1, eventNumber: 0 },
    ],
    [
      "handed back in a drain",
      event({ event: "log", attempt: 3, n: 5, crashes: 1, uncounted: true }),
      9,
      { kind: "run", attempt: 3, crashes: 1, eventNumber: 5 },
    ],
  ] as const)("%s", (_, last, delivered, expected) => {
    expect(judge(null, last, delivered, 3)).toEqual(expected);
  });

  test("the error of the last attempt is the error of the task", () => {
    expect(judge(null, event({ event: "RETRY", attempt: 3, n: 4 }), 4, 3)).toEqual({
      kind: "failed",
      error: { ...error, retryable: false },
      attempt: 3,
      eventNumber: 4,
    });
    expect(judge(null, event({ attempt: 3, n: 4 }), 4, 3)).toMatchObject({ error: { code: "runner_failed" } });
  });

  test("an overdue job is ended where it was never started, and goes on where it was", () => {
    const ended = { kind: "failed", attempt: 0, eventNumber: 0, error: { code: "deadline_exceeded", retryable: true } };
    expect(judge(null, null, 1, 3, true)).toMatchObject(ended);
    expect(judge(stored("cancelling"), null, 1, 3, true)).toMatchObject({ kind: "cancelled" });
    expect(judge(null, event({ event: "RETRY" }), 2, 3, true)).toMatchObject({ kind: "run", attempt: 2 });
  });

  test("an attempt that waits for a model server is begun again, and counts when its process dies", () => {
    const waiting = { sinceMs: 1_000, tries: 4 };
    const retry = event({ event: "RETRY", n: 8, uncounted: true, waiting });
    const again = { kind: "run", attempt: 1, crashes: 0, eventNumber: 8, waiting } as const;
    expect(judge(null, retry, 50, 1)).toEqual(again);
    expect(judge(null, { ...retry, event: "log" }, 50, 1, true)).toEqual(again); // it was drained in a try
    const begun = event({ event: "STARTED", n: 9, waiting });
    expect(judge(null, begun, 51, 2)).toEqual({ kind: "run", attempt: 2, crashes: 1, eventNumber: 0 });
    expect(judge(stored("cancelling"), retry, 50, 1)).toMatchObject({ kind: "cancelled", eventNumber: 8 });
  });

  test("one that waits past its deadline ends with what it waited for", () => {
    const retry = event({ event: "RETRY", n: 8, uncounted: true, waiting: { sinceMs: 1_000, tries: 4 } });
    expect(judge(null, retry, 5, 3, true, 3_500)).toEqual({
      kind: "failed",
      error: { ...error, message: "it broke. The task waited for 2.5 s.", retryable: false },
      attempt: 1,
      eventNumber: 8,
    });
  });

  test("a job that comes again and again without a trace is poison", () => {
    expect(judge(null, null, 257, 3)).toMatchObject({ kind: "failed", error: { code: "poison", retryable: false } });
  });
});
