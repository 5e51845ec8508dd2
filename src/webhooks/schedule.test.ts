import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { loadConfig } from "../config.ts";
import { judge, type Outcome } from "./schedule.ts";

const { webhookRetryMs: retryMs } = loadConfig({});
const NOW_MS = Date.parse("2026-11-21T10:00:00Z");
const HOUR_MS = 3_600_000;

const answered = (status: number, retryAfter: string | null = null): Outcome => ({ status, error: null, retryAfter });
const broken = (error: string): Outcome => ({ status: null, error, retryAfter: null });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const attempts = fc.integer({ min: 1, max: 30 });
const anyOutcome = fc.oneof(
  fc.record({
    status: fc.integer({ min: 100, max: 599 }),
    error: fc.constant(null),
    retryAfter: fc.option(fc.string()),
  }),
  fc.constantFrom("fetch_timeout", "fetch_failed", "fetch_blocked").map(broken),
);

test("the waits are 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 14 h: eight attempts", () => {
  expect(retryMs).toEqual([5_000, 300_000, 1_800_000, 2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS, 14 * HOUR_MS]);
});

describe("judge", () => {
  test("2xx is success, whatever came before, and nothing else is", () => {
    fc.assert(
      fc.property(anyOutcome, attempts, random, (outcome, made, chance) => {
        const is2xx = outcome.status !== null && outcome.status >= 200 && outcome.status <= 299;
        expect(judge(outcome, made, retryMs, NOW_MS, chance).kind === "delivered").toBe(is2xx);
      }),
    );
  });

  test("another attempt comes no earlier than the schedule says and no more than a fifth later", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 7 }), random, (made, chance) => {
        const verdict = judge(answered(500), made, retryMs, NOW_MS, chance);
        const waitMs = verdict.kind === "again" ? verdict.atMs - NOW_MS : Number.NaN;
        const least = retryMs[made - 1] ?? Number.NaN;
        expect(waitMs).toBeGreaterThanOrEqual(least);
        expect(waitMs).toBeLessThanOrEqual(1.2 * least);
      }),
    );
  });

  test("it is over after as many attempts as there are waits and one, at the latest", () => {
    fc.assert(
      fc.property(anyOutcome, fc.integer({ min: 8, max: 100 }), random, (outcome, made, chance) => {
        expect(judge(outcome, made, retryMs, NOW_MS, chance).kind).not.toBe("again");
      }),
    );
  });

  test.each([
    ["410", answered(410, "5")],
    ["a private address", broken("fetch_blocked")],
  ])("%s ends it at once", (_name, outcome) => {
    expect(judge(outcome, 1, retryMs, NOW_MS, 0)).toEqual({ kind: "failed" });
  });

  test.each([
    ["a redirect", answered(301)],
    ["a client's error", answered(404)],
    ["a time-out", broken("fetch_timeout")],
  ])("%s is tried again", (_name, outcome) => {
    expect(judge(outcome, 1, retryMs, NOW_MS, 0)).toEqual({ kind: "again", atMs: NOW_MS + 5_000 });
  });

  test.each([
    ["seconds", "120", 120_000],
    ["less than the schedule", "1", 5_000],
    ["a date", "Sat, 21 Nov 2026 10:10:00 GMT", 600_000],
    ["a date that has passed", "Sat, 21 Nov 2026 09:00:00 GMT", 5_000],
    ["a year", "31536000", 14 * HOUR_MS],
    ["a date in a year", "Sun, 21 Nov 2027 10:00:00 GMT", 14 * HOUR_MS],
    ["a negative number", "-1", 5_000],
    ["a word", "soon", 5_000],
    ["a word like a date", "never GMT", 5_000],
  ])("Retry-After of %s", (_name, header, waitMs) => {
    expect(judge(answered(503, header), 1, retryMs, NOW_MS, 0)).toEqual({ kind: "again", atMs: NOW_MS + waitMs });
  });

  test("whatever Retry-After says, the next attempt is a time to come", () => {
    fc.assert(
      fc.property(fc.string(), random, (header, chance) => {
        const verdict = judge(answered(429, header), 1, retryMs, NOW_MS, chance);
        if (verdict.kind !== "again") throw new Error(verdict.kind);
        expect(Number.isInteger(verdict.atMs)).toBe(true);
        expect(verdict.atMs).toBeGreaterThan(NOW_MS);
      }),
    );
  });
});
