// Randomness that a failing test can print and repeat: numbers from a seed, which is SEED or a fresh one.

export interface RandomNumbers {
  readonly seed: number;
  /** In [0, 1). */
  next(): number;
  /** A whole number from 0 to `limit - 1`. */
  below(limit: number): number;
}

/** mulberry32 (Ettinger, public domain): 32 bits of state, which is plenty for a test's schedule. */
export function randomNumbers(seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32))): RandomNumbers {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { seed, next, below: (limit) => Math.floor(next() * limit) };
}
