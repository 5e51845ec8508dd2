// Values that are asked for often and may be a second old. While somebody asks, each is loaded anew about once a second,
// behind the answers; nobody waits but the first after a pause. What is dear to load is loaded less often, so that the
// cost stays a small share of the time however large the thing is.
import type { Clock } from "../clock.ts";

const FRESH_MS = 1_000;
/** A load that took long is not repeated before so many times its length: at most a twentieth of the time goes into it. */
const SHARE = 20;
const FRESH_MS_MAX = 10_000;

export interface Aged<T> {
  readonly value: T;
  /** When its load began, on the monotonic clock. */
  readonly atMs: number;
}

interface Entry<T> {
  aged: Aged<T> | null;
  freshMs: number;
  loading: Promise<Aged<T>> | null;
}

export interface Recent<T> {
  /** The value of `key`: at once where a recent one is kept, else as `load` resolves, which is called once for all. */
  get(key: string, load: () => Promise<T>): Aged<T> | Promise<Aged<T>>;
}

/** Keeps at most `keysMax` values; when there are more, all are forgotten. */
export function createRecent<T>(clock: Clock, keysMax: number): Recent<T> {
  const entries = new Map<string, Entry<T>>();

  const begin = (entry: Entry<T>, load: () => Promise<T>): Promise<Aged<T>> => {
    const atMs = clock.monotonicMs();
    const loading = load()
      .then((value) => {
        entry.aged = { value, atMs };
        entry.freshMs = Math.min(FRESH_MS_MAX, Math.max(FRESH_MS, (clock.monotonicMs() - atMs) * SHARE));
        return entry.aged;
      })
      .finally(() => {
        entry.loading = null;
      });
    loading.catch(() => {}); // who waits for it gets the error; behind an answer the next one tries again
    entry.loading = loading;
    return loading;
  };
  return {
    get(key, load) {
      let entry = entries.get(key);
      if (!entry) {
        if (entries.size >= keysMax) entries.clear();
        entry = { aged: null, freshMs: FRESH_MS, loading: null };
        entries.set(key, entry);
      }
      const ageMs = entry.aged ? clock.monotonicMs() - entry.aged.atMs : Number.POSITIVE_INFINITY;
      if (entry.aged && ageMs <= entry.freshMs) return entry.aged;
      const loading = entry.loading ?? begin(entry, load);
      return entry.aged && ageMs <= entry.freshMs * 2 ? entry.aged : loading;
    },
  };
}
