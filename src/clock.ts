// Time and randomness as ports, so that a test can own them. Production code takes a Clock where it decides by time.

export interface Clock {
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that never goes back; only differences mean anything. */
  readonly monotonicMs: () => number;
}

export const systemClock: Clock = { now: () => Date.now(), monotonicMs: () => performance.now() };

/** RFC 3339 in UTC with milliseconds: `2026-11-21T10:00:00.000Z`. */
export const rfc3339 = (epochMs: number): string => new Date(epochMs).toISOString();

/** Resolves after `ms` or when `signal` aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
