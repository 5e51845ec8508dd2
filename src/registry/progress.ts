// Thins a runner's progress out: a loop may report a million times, watchers get ten a second and always the last one.
// One is made by context.ts for each task that reports at all; ended with the task, it leaves no timer behind.
import type { Clock } from "../clock.ts";

/** Ten a second: more than an eye follows, and small beside the work of a stage. */
const INTERVAL_MS = 100;
const MESSAGE_CHARS_MAX = 200;

export type ProgressSink = (fraction: number, message?: string) => void;

export interface Progress {
  /** `fraction` is cut to 0..1; what is not a number counts as nothing to tell. Never throws. */
  report(fraction: number, message?: string): void;
  /** Sends what was held back. Later reports are dropped. */
  end(): void;
}

/** Calls `after` in `ms`; returns what cancels it. */
export type Schedule = (ms: number, after: () => void) => () => void;

export const realSchedule: Schedule = (ms, after) => {
  const timer = setTimeout(after, ms);
  return () => clearTimeout(timer);
};

export function createProgress(sink: ProgressSink, clock: Clock, schedule: Schedule = realSchedule): Progress {
  let sentAtMs = Number.NEGATIVE_INFINITY;
  let held: { readonly fraction: number; readonly message: string | undefined } | null = null;
  let cancelTimer: (() => void) | null = null;
  let ended = false;

  const flush = (): void => {
    cancelTimer?.();
    cancelTimer = null;
    if (!held) return;
    const { fraction, message } = held;
    held = null;
    sentAtMs = clock.monotonicMs();
    if (message === undefined) sink(fraction);
    else sink(fraction, message);
  };

  return {
    report(fraction, message) {
      if (ended || typeof fraction !== "number" || Number.isNaN(fraction)) return;
      held = {
        fraction: Math.min(1, Math.max(0, fraction)),
        message: typeof message === "string" ? message.slice(0, MESSAGE_CHARS_MAX) : undefined,
      };
      const waitMs = sentAtMs + INTERVAL_MS - clock.monotonicMs();
      if (waitMs <= 0) flush();
      else cancelTimer ??= schedule(waitMs, flush);
    },
    end() {
      flush();
      ended = true;
    },
  };
}
