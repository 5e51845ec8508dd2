import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  admitsTry,
  afterAdmitting,
  afterNews,
  type Breaker,
  breakerAt,
  closedBreaker,
  FAILURES_MAX,
  FAILURES_WITHIN_MS,
  OPEN_MS,
  PROBE_MS_MAX,
  SUCCESSES_TO_CLOSE,
} from "./breaker.ts";
import type { TryNews } from "./llm-models.ts";

interface Step {
  readonly outcome: TryNews;
  readonly afterMs: number;
}
const step = (...outcomes: TryNews[]) =>
  fc.record({ outcome: fc.constantFrom(...outcomes), afterMs: fc.integer({ min: 0, max: 90_000 }) });

/** Tries as a caller makes them: only what is admitted is begun, and its end reported. */
function run(steps: readonly Step[], from = closedBreaker) {
  let breaker: Breaker = from;
  let nowMs = 0;
  for (const { outcome, afterMs } of steps) {
    nowMs += afterMs;
    if (!admitsTry(breaker, nowMs)) continue;
    breaker = afterNews(afterAdmitting(breaker, nowMs), outcome, nowMs);
  }
  return { breaker: breakerAt(breaker, nowMs), nowMs };
}
const failed = (count: number, afterMs = 1): Step[] => Array(count).fill({ outcome: "failed", afterMs });

test("overload, a refused key and what may be the request's fault never open it, whatever else succeeds", () => {
  fc.assert(
    fc.property(fc.array(step("ok", "begun", "unclear", "overloaded", "unauthorized"), { maxLength: 50 }), (steps) => {
      expect(run(steps).breaker).toEqual(closedBreaker);
    }),
  );
});

test("it opens with the fifth failure in a row within a minute, and not before", () => {
  expect(run(failed(FAILURES_MAX - 1)).breaker.state).toBe("closed");
  expect(run(failed(FAILURES_MAX)).breaker.state).toBe("open");
  expect(run([...failed(4), { outcome: "ok", afterMs: 1 }, ...failed(4)]).breaker.state).toBe("closed");
  expect(run([...failed(4), { outcome: "overloaded", afterMs: 1 }, ...failed(1)]).breaker.state).toBe("open");
  expect(run(failed(50, FAILURES_WITHIN_MS / (FAILURES_MAX - 1))).breaker.state).toBe("closed");
});

test("answers that begin and then break off open it as well: while closed only ends count", () => {
  const broken: Step[] = [
    { outcome: "begun", afterMs: 1 },
    { outcome: "failed", afterMs: 1 },
  ];
  expect(run(Array(FAILURES_MAX).fill(broken).flat()).breaker.state).toBe("open");
});

test("a probe that has begun to answer makes room for the next; the second closes it", () => {
  const { breaker, nowMs } = run(failed(FAILURES_MAX));
  const atMs = nowMs + OPEN_MS;
  const begun = afterNews(afterAdmitting(breaker, atMs), "begun", atMs);
  expect([begun.state, admitsTry(begun, atMs)]).toEqual(["half-open", true]);
  expect(afterNews(afterAdmitting(begun, atMs), "begun", atMs)).toEqual(closedBreaker);
});

test("a closed one admits everything, an open one nothing until its time is over", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 * OPEN_MS }), (laterMs) => {
      const { breaker, nowMs } = run(failed(FAILURES_MAX));
      expect(admitsTry(breaker, nowMs + laterMs)).toBe(laterMs >= OPEN_MS);
    }),
  );
});

test("half-open it lets one probe out at a time; one that nobody reports makes room", () => {
  const { breaker, nowMs } = run(failed(FAILURES_MAX));
  const atMs = nowMs + OPEN_MS;
  const probing = afterAdmitting(breaker, atMs);
  expect(admitsTry(probing, atMs)).toBe(false);
  expect(admitsTry(probing, atMs + PROBE_MS_MAX)).toBe(true);
  for (const news of ["overloaded", "unclear"] as const) {
    expect(admitsTry(afterNews(probing, news, atMs), atMs)).toBe(true);
  }
});

test("two successes close it, a failure opens it for another while", () => {
  const { breaker, nowMs } = run(failed(FAILURES_MAX));
  const atMs = nowMs + OPEN_MS;
  let probed: Breaker = breaker;
  for (let i = 0; i < SUCCESSES_TO_CLOSE; i++) {
    expect(breakerAt(probed, atMs).state).toBe("half-open");
    probed = afterNews(afterAdmitting(probed, atMs), "ok", atMs);
  }
  expect(probed).toEqual(closedBreaker);
  const again = afterNews(afterAdmitting(breaker, atMs), "failed", atMs);
  expect(again).toEqual({ state: "open", untilMs: atMs + OPEN_MS });
});

test("from any state a server that answers is back within the open time and two calls", () => {
  fc.assert(
    fc.property(fc.array(step("ok", "begun", "failed", "overloaded", "unauthorized"), { maxLength: 60 }), (steps) => {
      const { breaker, nowMs } = run(steps);
      let now = breaker;
      const atMs = nowMs + OPEN_MS;
      for (let i = 0; i < SUCCESSES_TO_CLOSE; i++) {
        expect(admitsTry(now, atMs)).toBe(true);
        now = afterNews(afterAdmitting(now, atMs), "ok", atMs);
      }
      expect(now).toEqual(closedBreaker);
    }),
  );
});

test("what ends while it is open, having begun before, changes nothing", () => {
  fc.assert(
    fc.property(fc.constantFrom<TryNews>("ok", "begun", "failed", "overloaded"), (outcome) => {
      const { breaker, nowMs } = run(failed(FAILURES_MAX));
      expect(afterNews(breaker, outcome, nowMs + 1)).toEqual(breaker);
    }),
  );
});
