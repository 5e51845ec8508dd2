// A circuit breaker as a pure function: one for each variant of a model (for each actor, where its server is the GPU's
// own). health.ts keeps them. It knows of no time but what it is given, and calls nobody.
//
//   closed ── 5 failures in a row within 60 s ──► open ── 30 s ──► half-open ── 2 successes ──► closed
//                                                  ▲                   │
//                                                  └───── a failure ───┘
//
// Half-open admits one probe at a time; an answer that begins and one that ends well are a success each, so others wait for
// a first token and not for a long answer's last. While closed only ends count: a server that always breaks off in the
// middle opens it too. Two kinds of news change nothing but free the probe. An overloaded server is a healthy one: a
// breaker that opened under load would turn "wait" into "down" for everybody. And what answers a request with an error
// while nobody else can answer it (`unclear`) may answer all others: docs/decisions/0044.
import type { TryNews } from "./llm-models.ts";

export type Breaker =
  | { readonly state: "closed" /** The last failures in a row. */; readonly failedAtMs: readonly number[] }
  | { readonly state: "open"; readonly untilMs: number }
  | {
      readonly state: "half-open";
      readonly successes: number /** 0: no probe is out. */;
      readonly probeUntilMs: number;
    };

export const FAILURES_MAX = 5;
export const FAILURES_WITHIN_MS = 60_000;
export const OPEN_MS = 30_000;
export const SUCCESSES_TO_CLOSE = 2;
/** A probe of which nobody has reported by then (its client has left, its process died) makes room for another. */
export const PROBE_MS_MAX = 10_000;

export const closedBreaker: Breaker = { state: "closed", failedAtMs: [] };

/** The breaker as it is at `nowMs`: one that was open for long enough is half-open. */
export const breakerAt = (breaker: Breaker, nowMs: number): Breaker =>
  breaker.state === "open" && nowMs >= breaker.untilMs
    ? { state: "half-open", successes: 0, probeUntilMs: 0 }
    : breaker;

/** Whether a call may be tried at `nowMs`. */
export function admitsTry(breaker: Breaker, nowMs: number): boolean {
  const now = breakerAt(breaker, nowMs);
  return now.state === "closed" || (now.state === "half-open" && nowMs >= now.probeUntilMs);
}

/** The breaker after a try was begun that `admitsTry` allowed: a half-open one has its probe out. */
export function afterAdmitting(breaker: Breaker, nowMs: number): Breaker {
  const now = breakerAt(breaker, nowMs);
  return now.state === "half-open" ? { ...now, probeUntilMs: nowMs + PROBE_MS_MAX } : now;
}

/** The breaker after news of a try. `unauthorized` is the provider's matter, and changes nothing here. */
export function afterNews(breaker: Breaker, news: TryNews, nowMs: number): Breaker {
  const now = breakerAt(breaker, nowMs);
  if (now.state === "open") return now; // a try that began before it opened
  if (now.state === "half-open") {
    if (news === "failed") return { state: "open", untilMs: nowMs + OPEN_MS };
    const successes = now.successes + (news === "ok" || news === "begun" ? 1 : 0);
    return successes >= SUCCESSES_TO_CLOSE ? closedBreaker : { state: "half-open", successes, probeUntilMs: 0 };
  }
  if (news === "ok") return closedBreaker;
  if (news !== "failed") return now;
  const recent = now.failedAtMs.filter((atMs) => nowMs - atMs < FAILURES_WITHIN_MS);
  if (recent.length + 1 >= FAILURES_MAX) return { state: "open", untilMs: nowMs + OPEN_MS };
  return { state: "closed", failedAtMs: [...recent, nowMs] };
}
