// How fast each model ends tasks and how long one of them keeps a slot, from the log of results as it is heard. Fed by
// the gateway's feed, asked by the forecast. All of it is a cache: every gateway hears the same log. It is on the path
// of every result, so it counts, and parses only a few records a second.
import type { Clock } from "../clock.ts";
import { type Priority, priorities } from "./task.ts";

export interface Completions {
  /** A task ended as SUCCESS or FAILURE at `timeMs`; `dataJson` is the task object. */
  heard(model: string, dataJson: string, timeMs: number): void;
  /** A task object of before: only how long it took counts. */
  learn(model: string, dataJson: string): void;
  /** Ends in the last `windowMs`, at most WINDOW_MS_MAX, of one priority or of all; and the time that was looked at. */
  count(model: string, windowMs: number, priority?: Priority): { readonly ended: number; readonly ms: number };
  /** Ends heard so far. */
  total(model: string): number;
  /** Mean milliseconds for which a task of the model kept its slot lately; null where none was heard. */
  serviceMs(model: string): number | null;
}

const BUCKET_MS = 250;
const BUCKETS = 240;
export const WINDOW_MS_MAX = BUCKET_MS * BUCKETS;
/** Records a bucket whose times are read: enough for a mean, few enough to cost nothing at thousands a second. */
const SAMPLED_MAX = 4;
/** Least weight of a new time in the mean: the last 20 or so count. */
const WEIGHT_MIN = 0.05;
/** After a pause other tasks may come: what was known then counts as so many times. */
const PAUSE_MS = 1_000;
const SAMPLES_AFTER_PAUSE = 2;
/** Models are named by the operator's runners; beyond so many the oldest are forgotten. */
const MODELS_MAX = 4_096;
/** `timing` stands before the result, which may be long and say what it likes. */
const HEAD_CHARS = 512;
const TIMING = /"timing":\{"queue_ms":[\d.]+,"prepare_ms":([\d.]+),"infer_ms":([\d.]+),"postprocess_ms":([\d.]+)/;
const PRIORITY = /"priority":"(high|normal|low)"/;

interface Meter {
  /** Ends by bucket and priority; a bucket counts only while its number stands in `numbers`. */
  readonly counts: Uint32Array;
  readonly numbers: Float64Array;
  total: number;
  sampled: number;
  samples: number;
  sampledAtMs: number;
  meanMs: number;
}

/** Takes the times of a task into the mean. */
function sample(meter: Meter, head: string, nowMs: number): void {
  const timing = TIMING.exec(head);
  if (!timing) return;
  const ms = Number(timing[1]) + Number(timing[2]) + Number(timing[3]);
  if (nowMs - meter.sampledAtMs > PAUSE_MS) meter.samples = Math.min(meter.samples, SAMPLES_AFTER_PAUSE);
  meter.sampledAtMs = nowMs;
  meter.samples++;
  meter.meanMs += (ms - meter.meanMs) * Math.max(WEIGHT_MIN, 1 / meter.samples);
}

export function createCompletions(clock: Clock): Completions {
  const meters = new Map<string, Meter>();
  const sinceMs = clock.now();

  const meterOf = (model: string): Meter => {
    const known = meters.get(model);
    if (known) return known;
    const [oldest] = meters.keys();
    if (meters.size >= MODELS_MAX && oldest !== undefined) meters.delete(oldest);
    const counts = new Uint32Array(BUCKETS * priorities.length);
    const meter = {
      counts,
      numbers: new Float64Array(BUCKETS).fill(-1),
      total: 0,
      sampled: 0,
      samples: 0,
      sampledAtMs: 0,
      meanMs: 0,
    };
    meters.set(model, meter);
    return meter;
  };
  return {
    heard(model, dataJson, timeMs) {
      const nowMs = clock.now();
      const meter = meterOf(model);
      meter.total++;
      // The clocks of two hosts differ: what is about now is now, and what is old is only read for its times.
      const number = Math.floor(nowMs / BUCKET_MS);
      const index = number % BUCKETS;
      if (meter.numbers[index] !== number) {
        meter.numbers[index] = number;
        meter.counts.fill(0, index * priorities.length, (index + 1) * priorities.length);
        meter.sampled = 0;
      }
      const head = dataJson.slice(0, HEAD_CHARS);
      const level = priorities.indexOf((PRIORITY.exec(head)?.[1] ?? "normal") as Priority);
      const place = index * priorities.length + level;
      if (nowMs - timeMs < LATE_MS_MAX) meter.counts[place] = (meter.counts[place] ?? 0) + 1;
      if (meter.sampled++ < SAMPLED_MAX) sample(meter, head, nowMs);
    },
    learn: (model, dataJson) => sample(meterOf(model), dataJson.slice(0, HEAD_CHARS), clock.now()),
    count(model, windowMs, priority) {
      const nowMs = clock.now();
      const number = Math.floor(nowMs / BUCKET_MS);
      const whole = Math.floor(Math.min(windowMs, WINDOW_MS_MAX - BUCKET_MS, nowMs - sinceMs) / BUCKET_MS);
      const ms = Math.max(0, whole - 1) * BUCKET_MS + (nowMs % BUCKET_MS);
      const meter = meters.get(model);
      let ended = 0;
      for (let n = number; meter && n > number - Math.max(1, whole); n--) {
        const index = n % BUCKETS;
        if (meter.numbers[index] !== n) continue;
        const levels = priority ? [priorities.indexOf(priority)] : priorities.keys();
        for (const level of levels) ended += meter.counts[index * priorities.length + level] ?? 0;
      }
      return { ended, ms };
    },
    total: (model) => meters.get(model)?.total ?? 0,
    serviceMs(model) {
      const meter = meters.get(model);
      return meter && meter.samples > 0 ? meter.meanMs : null;
    },
  };
}

/** An end that is heard so late was read from the log after a pause; it says nothing of the rate now. */
const LATE_MS_MAX = 5_000;
