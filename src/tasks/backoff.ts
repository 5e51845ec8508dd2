// When a failed attempt is repeated. Pure: randomness comes in as a number.

const BASE_MS = 1_000;
const CAP_MS = 300_000;

/**
 * Milliseconds to wait before attempt `attempt + 1`: exponential from 1 s, capped at 5 min, with "equal jitter" (half
 * fixed, half random), so that tasks that failed together do not come back together and none comes back at once.
 * Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. `random` is in [0, 1).
 */
export function retryDelayMs(attempt: number, random: number): number {
  const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** (Math.max(1, attempt) - 1));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
