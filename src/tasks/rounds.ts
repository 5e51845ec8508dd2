// Work that comes round: does it, waits as long as it said, does it again. For what every gateway does beside its
// requests (jobs that become due, deadlines, schedules). Never two rounds at once, and none is lost to an error.
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";

export interface Rounds {
  /** Resolves when no round is under way and none will follow. */
  stop(): Promise<void>;
}

export interface RoundsOptions {
  /** For the log. */
  readonly name: string;
  /** Does one round and resolves to the milliseconds until the next; `stopping` aborts when it should end early. */
  readonly round: (stopping: AbortSignal) => Promise<number>;
  /** Wait after a round that failed. */
  readonly retryMs: number;
  readonly log: Log;
}

/** Longer waits go in pieces: a timer holds 31 bits, and clocks are set. */
const WAIT_MS_MAX = 60_000;

export function startRounds({ name, round, retryMs, log }: RoundsOptions): Rounds {
  const stopping = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running: Promise<void> = Promise.resolve();
  let failing = false;
  const turn = (): void => {
    running = round(stopping.signal)
      .then(
        (waitMs) => {
          failing = false;
          return waitMs;
        },
        (error) => {
          // A broker or a database that is away fails every round: said once.
          log[failing ? "debug" : "warn"](
            { round: name, error: messageOf(error) },
            "a round failed; it is tried again",
          );
          failing = true;
          return retryMs;
        },
      )
      .then((waitMs) => {
        if (!stopping.signal.aborted) timer = setTimeout(turn, Math.min(Math.max(0, waitMs), WAIT_MS_MAX));
      });
  };
  turn();
  return {
    stop() {
      stopping.abort();
      clearTimeout(timer);
      return running;
    },
  };
}

/**
 * `work` on each item, so many at once; begins no more once `stopping` has aborted. Rejects with the first error, when
 * nothing is under way any more: an item that fails costs one of the workers and not the other items.
 */
export async function forEachAtOnce<T>(
  items: readonly T[],
  atOnceMax: number,
  stopping: AbortSignal,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length && !stopping.aborted) await work(items[next++] as T);
  };
  const ends = await Promise.allSettled(Array.from({ length: Math.min(atOnceMax, items.length) }, worker));
  const failed = ends.find((end) => end.status === "rejected");
  if (failed) throw failed.reason;
}
