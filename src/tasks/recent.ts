// A value that is asked for often and may be a second old. While somebody asks it is loaded anew about once a second,
// behind the answers; nobody waits but the first after a pause. What is dear to load is loaded less often, so that the
// cost stays a small share of the time however large it is.
import type { Clock } from "../clock.ts";

const FRESH_MS = 1_000;
/** At the most so often, where the value is known to be behind. */
const HURRY_MS = 100;
/** A load is not repeated before so many times its length: at most a twentieth of the time goes into it. */
const SHARE = 20;
const FRESH_MS_MAX = 10_000;

export interface Recent<T> {
  /** The value: at once where a recent one is kept, else as `load` resolves, which is called once for all who wait. */
  get(): T | Promise<T>;
  /** The kept value is known to be behind: it is loaded anew soon, and nobody waits for it. */
  hurry(): void;
}

export function createRecent<T>(clock: Clock, load: () => Promise<T>): Recent<T> {
  let kept: { readonly value: T; readonly atMs: number } | null = null;
  let tookMs = 0;
  let loading: Promise<T> | null = null;

  const ageMs = (): number => (kept ? clock.monotonicMs() - kept.atMs : Number.POSITIVE_INFINITY);
  const reload = async (): Promise<T> => {
    const atMs = clock.monotonicMs();
    try {
      const value = await load();
      kept = { value, atMs };
      tookMs = clock.monotonicMs() - atMs;
      return value;
    } finally {
      loading = null;
    }
  };
  const refresh = (): Promise<T> => {
    loading ??= reload();
    loading.catch(() => {}); // who waits gets the error; behind an answer the next one tries again
    return loading;
  };
  const restMs = (): number => Math.min(FRESH_MS_MAX, tookMs * SHARE);
  return {
    get() {
      const freshMs = Math.max(FRESH_MS, restMs());
      const age = ageMs();
      if (kept && age <= freshMs) return kept.value;
      const next = refresh();
      return kept && age <= freshMs * 2 ? kept.value : next;
    },
    hurry() {
      if (ageMs() > Math.max(HURRY_MS, restMs())) void refresh();
    },
  };
}
