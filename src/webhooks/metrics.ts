// What a gateway counts of the webhooks that its own thread sends. Each attempt is made by one gateway, so the sum over
// all of them is the truth. No label names a receiver or a key.
import type { Metrics } from "../metrics/metrics.ts";

/** One attempt to deliver an end, and what follows from it. */
export interface AttemptMade {
  /** delivered; again: another will follow; failed: given up. */
  readonly outcome: "delivered" | "again" | "failed";
  readonly durationMs: number;
}

/** Receivers are given seconds; the last bound is beyond the longest attempt. */
const BOUNDS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** The function to tell of each attempt. */
export function countWebhooks(metrics: Metrics): (attempt: AttemptMade) => void {
  const attempts = metrics.counter({
    name: "millrace_webhook_attempts_total",
    help: "Attempts of this gateway to deliver the end of a task: delivered, again (to be repeated) or failed for good.",
    labels: ["outcome"],
  });
  const seconds = metrics.histogram({
    name: "millrace_webhook_attempt_seconds",
    help: "From the start of an attempt to the receiver's answer or the lack of one.",
    labels: ["outcome"],
    bounds: BOUNDS_S,
  });
  for (const outcome of ["delivered", "again", "failed"]) attempts.of(outcome);
  return ({ outcome, durationMs }) => {
    attempts.of(outcome).add();
    seconds.of(outcome).observe(durationMs / 1_000);
  };
}
