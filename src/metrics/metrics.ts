// The metrics of one process: counters and histograms that cost some nanoseconds to write, gauges that are asked when
// somebody scrapes, and the text of both (Prometheus exposition format 0.0.4). Composition roots make one and hand it
// down; it never grows with what clients send: a family keeps at most seriesMax label sets.
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { familyText, type Sample } from "./exposition.ts";

/** A scraper waits for ten seconds by default: what cannot be read sooner than this is left out. */
const readMsMax = 3_000;

/** Label sets that a family keeps; what comes after them is counted under `other`. Models are the widest label. */
const seriesMax = 1_000;

export interface FamilyOptions {
  /** snake_case, with the unit last (`_seconds`, `_bytes`); counters end in `_total`. */
  readonly name: string;
  /** What is counted, for whoever reads a dashboard. */
  readonly help: string;
  readonly labels?: readonly string[];
}

export interface HistogramOptions extends FamilyOptions {
  /** Upper bounds, ascending, without +Inf. */
  readonly bounds: readonly number[];
}

export interface SampledOptions extends FamilyOptions {
  readonly type: "gauge" | "counter";
  /** Called at each scrape. Where it throws or takes longer than readMsMax, the family is left out of this one. */
  readonly read: () => number | readonly Sample[] | Promise<number | readonly Sample[]>;
}

/** The series of a family. Whoever writes often asks once and keeps the series. */
export interface Family<Series> {
  /** One value for each label, in their order. */
  of(...values: readonly string[]): Series;
}

export interface Metrics {
  counter(options: FamilyOptions): Family<Counter>;
  histogram(options: HistogramOptions): Family<Histogram>;
  sampled(options: SampledOptions): void;
  /** The text of all families, in the order in which they were made. Does not throw. */
  text(): Promise<string>;
}

/** The media type of `text()`. */
export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

/** Only goes up. */
export class Counter {
  value = 0;

  add(count = 1): void {
    this.value += count;
  }
}

/** How often a value fell between two bounds, and the sum of all values. */
export class Histogram {
  readonly bounds: readonly number[];
  /** One more than there are bounds: the last counts what lies above them all. */
  readonly counts: Float64Array;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds } = this;
    let index = 0;
    while (index < bounds.length && value > (bounds[index] as number)) index++;
    this.counts[index] = (this.counts[index] as number) + 1;
    this.sum += value;
  }
}

interface Registered {
  readonly options: FamilyOptions;
  readonly type: "counter" | "gauge" | "histogram";
  read(): readonly Sample[] | Promise<readonly Sample[]>;
}

/** `waitMs` is given by tests alone. */
export function createMetrics(log: Log, waitMs = readMsMax): Metrics {
  const families = new Map<string, Registered>();
  const register = (family: Registered): void => {
    const { name } = family.options;
    if (!/^[a-z][a-z0-9_]*$/.test(name) || families.has(name)) throw new RangeError(`a second or odd metric ${name}`);
    families.set(name, family);
  };
  const textOf = async ({ options, type, read }: Registered): Promise<string> => {
    try {
      return familyText(options.name, options.help, type, await inTime(read(), waitMs));
    } catch (error) {
      log.debug({ metric: options.name, error: messageOf(error) }, "a metric cannot be read now");
      return "";
    }
  };
  return {
    counter(options) {
      const family = createFamily(options.labels ?? [], () => new Counter());
      register({ options, type: "counter", read: () => family.samples((counter) => [["", counter.value]]) });
      return family;
    },
    histogram(options) {
      const family = createFamily(options.labels ?? [], () => new Histogram(options.bounds));
      register({ options, type: "histogram", read: () => family.samples(cumulative) });
      return family;
    },
    sampled(options) {
      const read = async (): Promise<readonly Sample[]> => {
        const found = await options.read();
        return typeof found === "number" ? [{ labels: [], value: found }] : found;
      };
      register({ options, type: options.type, read });
    },
    text: async () => (await Promise.all([...families.values()].map(textOf))).join(""),
  };
}

/** What `work` resolves to; throws when it takes too long. Nothing is waited for where it is there already. */
async function inTime<T>(work: T | Promise<T>, waitMs: number): Promise<T> {
  if (!(work instanceof Promise)) return work;
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("it takes too long")), waitMs);
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

type Parts<Series> = (series: Series) => readonly (readonly [suffix: string, value: number, le?: string])[];

function createFamily<Series>(labels: readonly string[], make: () => Series) {
  interface Entry {
    readonly values: readonly string[];
    readonly series: Series;
  }
  const entries = new Map<string, Entry>();
  const of = (...values: readonly string[]): Series => {
    if (values.length !== labels.length) throw new RangeError(`a metric wants the labels ${labels.join(", ")}`);
    const key = values.join("\n");
    const known = entries.get(key);
    if (known) return known.series;
    // The last place is for all that found none.
    if (entries.size >= seriesMax - 1 && values.some((value) => value !== "other"))
      return of(...labels.map(() => "other"));
    const series = make();
    entries.set(key, { values, series });
    return series;
  };
  // Without labels there is one series, and it is there from the start: a rate needs the zero before the first event.
  if (labels.length === 0) of();
  const samples = (parts: Parts<Series>): readonly Sample[] =>
    [...entries.values()].flatMap(({ values, series }) => {
      const pairs = labels.map((label, index) => [label, values[index] ?? ""] as const);
      return parts(series).map(([suffix, value, le]) => ({
        suffix,
        labels: le === undefined ? pairs : [...pairs, ["le", le] as const],
        value,
      }));
    });
  return { of, samples };
}

const cumulative: Parts<Histogram> = ({ bounds, counts, sum }) => {
  let count = 0;
  const buckets = Array.from(counts, (own, index) => {
    count += own;
    const bound = bounds[index];
    return ["_bucket", count, bound === undefined ? "+Inf" : String(bound)] as const;
  });
  return [...buckets, ["_sum", sum], ["_count", count]];
};
