// What a simulated server is in besides its engine: awake or not, alive or not, and what it counts. One per simulator;
// surface.ts makes it, its routes read and change it.
import type { FaultRules } from "./fault-rules.ts";
import type { SimMetrics } from "./metrics.ts";
import type { Sleep } from "./sleep.ts";

export interface ServerState {
  readonly rules: FaultRules;
  readonly metrics: SimMetrics;
  /** Every answer is 500 and /health is 503. */
  dead: boolean;
  readonly sleep: Sleep;
  /** Refuses connections for so many milliseconds. */
  refuse: (ms: number) => void;
  /** By `performance.now()`. */
  readonly readyAtMs: number;
}
