// Prometheus' text format (0.0.4), for the simulator's /metrics: counters, gauges and histograms whose labels stand in
// the order of their names, as vLLM's client library writes them. Called by metrics.ts. It keeps no series that nobody
// made, and no name of its own.

export type Labels = Readonly<Record<string, string>>;

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram" | "summary";
  samples(): readonly Sample[];
}

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** Of a histogram or summary: `_bucket`, `_sum` or `_count`. */
  readonly suffix?: string;
}

/** Observations by upper bound. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** `bounds` ascend; +Inf is added. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Array(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    let index = 0;
    while (index < this.#bounds.length && value > (this.#bounds[index] as number)) index++;
    this.#counts[index] = (this.#counts[index] as number) + 1;
    this.#sum += value;
  }

  samples(labels: Labels): Sample[] {
    let count = 0;
    const buckets = this.#counts.map((own, index) => {
      count += own;
      const bound = this.#bounds[index] ?? Number.POSITIVE_INFINITY;
      return { suffix: "_bucket", labels: { ...labels, le: numberText(bound) }, value: count };
    });
    return [...buckets, { suffix: "_sum", labels, value: this.#sum }, { suffix: "_count", labels, value: count }];
  }
}

/** A family of counters that is its own list of samples. */
export class Counts implements Family {
  readonly type = "counter";
  readonly name: string;
  readonly help: string;
  readonly #series = new Map<string, { labels: Labels; value: number }>();

  constructor(name: string, help: string) {
    this.name = name;
    this.help = help;
  }

  samples(): Sample[] {
    return [...this.#series.values()];
  }

  /** The same labels in the same order each time. */
  add(labels: Labels, count = 1): void {
    const key = Object.values(labels).join("\n");
    const entry = this.#series.get(key);
    if (entry) entry.value += count;
    else this.#series.set(key, { labels, value: count });
  }
}

/** The families that have samples. */
export const expositionOf = (families: readonly Family[]): string => families.map(familyText).join("");

function familyText(family: Family): string {
  const { name, help, type } = family;
  const lines = family
    .samples()
    .map(({ suffix = "", labels, value }) => `${name}${suffix}${labelsText(labels)} ${value}\n`);
  return lines.length === 0 ? "" : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function labelsText(labels: Labels): string {
  const pairs = Object.keys(labels)
    .sort()
    .map((name) => `${name}="${escaped(labels[name] ?? "")}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

const escaped = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

/** As Python writes a float: `0.5`, `1.0`, `+Inf`. Bounds only; a scraper reads them as labels. */
const numberText = (bound: number): string =>
  bound === Number.POSITIVE_INFINITY ? "+Inf" : Number.isInteger(bound) ? `${bound}.0` : String(bound);
