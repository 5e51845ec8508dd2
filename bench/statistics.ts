// The arithmetic of the benchmarks: quantiles, medians and the search for the end of a backlog. Used by the load
// generator and by the reports; pure, so that the numbers can be trusted apart from the machine they came from.

/** Nearest-rank quantiles, rounded to two decimals. NaN where there was no sample. */
export interface Quantiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

export function quantiles(samples: readonly number[]): Quantiles {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number => {
    const sample = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
    return round(sample ?? Number.NaN, 2);
  };
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}

/** The middle of the finite samples, or the mean of the two middle ones; NaN of none. */
export function median(samples: readonly number[]): number {
  const sorted = samples.filter(Number.isFinite).sort((a, b) => a - b);
  const upper = sorted[sorted.length >> 1] ?? Number.NaN;
  const lower = sorted[(sorted.length - 1) >> 1] ?? Number.NaN;
  return (lower + upper) / 2;
}

export const round = (value: number, decimals: number): number => Number(value.toFixed(decimals));

/**
 * How many of the first `length` places hold, given that all that hold come before all that do not: bisection, so
 * about log2(length) questions. Where the order is only rough, the answer is as rough.
 */
export async function countLeading(length: number, holds: (index: number) => Promise<boolean>): Promise<number> {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (await holds(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}
