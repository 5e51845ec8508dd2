// The deltas of one task on their way to its watchers: in order, and thinned out where the runner allows it. One is
// made by context.ts for each task that emits; ended with the task, it leaves no timer behind and loses nothing.
import type { Clock } from "../clock.ts";
import { RunnerError } from "./define.ts";
import { realSchedule, type Schedule } from "./progress.ts";

/** One delta as JSON. Tokens are a hundredth of it; whatever is larger is a result, not a delta. */
const DELTA_BYTES_MAX = 32 * 1_024;
/**
 * What may be merged leaves twenty times a second at most. The log of events has one room for all tasks, and a record a
 * token would push the beginning of an answer out while its end is still being made (decision 0036).
 */
const INTERVAL_MS = 50;

/** One delta that says what both said, or null where they cannot be one. */
export type Merge = (earlier: unknown, later: unknown) => unknown;

export interface Deltas {
  /**
   * Sends `delta`: at once, or with `merge` within 50 ms of the last one that left, as one with those that came
   * meanwhile. Throws `invalid_delta`, `delta_too_large`.
   */
  send(delta: unknown, merge?: Merge): void;
  /** Sends what is held. Later deltas are dropped. */
  end(): void;
}

export function createDeltas(sink: (json: string) => void, clock: Clock, schedule: Schedule = realSchedule): Deltas {
  let sentAtMs = Number.NEGATIVE_INFINITY;
  let held: { readonly value: unknown; readonly json: string } | null = null;
  let cancelTimer: (() => void) | null = null;
  let ended = false;

  const flush = (): void => {
    cancelTimer?.();
    cancelTimer = null;
    if (!held) return;
    const { json } = held;
    held = null;
    sentAtMs = clock.monotonicMs();
    sink(json);
  };

  const hold = (value: unknown, json: string, merge: Merge): void => {
    const merged = held ? merge(held.value, value) : null;
    const mergedJson = merged === null ? null : jsonOf(merged);
    if (mergedJson !== null && !isTooLarge(mergedJson)) {
      held = { value: merged, json: mergedJson };
      return;
    }
    flush();
    held = { value, json };
  };

  return {
    send(delta, merge) {
      if (ended) return;
      const json = jsonOf(delta);
      if (isTooLarge(json)) throw refused("delta_too_large", `a delta has at most ${DELTA_BYTES_MAX} bytes`);
      if (!merge) {
        flush();
        sentAtMs = clock.monotonicMs();
        return sink(json);
      }
      hold(delta, json, merge);
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

function jsonOf(delta: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(delta);
  } catch (cause) {
    throw refused("invalid_delta", "emit(delta) takes a JSON value", cause);
  }
  if (json === undefined) throw refused("invalid_delta", "emit(delta) takes a JSON value");
  return json;
}

/** UTF-8 takes at most three bytes for a UTF-16 unit: only long texts have to be counted. */
const isTooLarge = (json: string): boolean =>
  json.length * 3 > DELTA_BYTES_MAX && Buffer.byteLength(json) > DELTA_BYTES_MAX;

const refused = (code: string, message: string, cause?: unknown): RunnerError =>
  new RunnerError(code, message, { retryable: false, cause });
