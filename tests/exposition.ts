// Reads Prometheus' text format (0.0.4) as strictly as its documentation says, for tests of what /metrics answers. Throws
// where a scraper would refuse the text or a linter would complain.

export interface Exposition {
  /** By family, `model="echo",status="success"` to the value; the labels in the order in which they stand. */
  readonly families: ReadonlyMap<string, { readonly type: string; readonly samples: ReadonlyMap<string, number> }>;
  /** The value of one series of a counter or gauge; 0 where it is not there. */
  value(name: string, labels?: string): number;
  /** The sum over all series of a family whose labels hold `part`. */
  sum(name: string, part?: string): number;
}

const LABELS = /^(?:[a-z_][a-z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,(?=.)|$))*$/;
const SAMPLE = /^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)$/;

export function readExposition(text: string): Exposition {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families = new Map<string, { type: string; samples: Map<string, number> }>();
  let help = "";
  let current = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const helped = /^# HELP (\S+) (.+)$/.exec(line);
    const typed = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line);
    const sample = SAMPLE.exec(line);
    if (helped) help = helped[1] ?? "";
    else if (typed) {
      current = typed[1] ?? "";
      if (current !== help || families.has(current)) throw new Error(`a family without help, or twice: ${current}`);
      families.set(current, { type: typed[2] ?? "", samples: new Map() });
    } else if (sample) addSample(families.get(current), current, sample, line);
    else throw new Error(`not a line of the format: ${line}`);
  }
  for (const [name, family] of families) checkFamily(name, family);
  const samplesOf = (name: string): ReadonlyMap<string, number> => families.get(name)?.samples ?? new Map();
  return {
    families,
    value: (name, labels = "") => samplesOf(name).get(`|${labels}`) ?? 0,
    sum: (name, part = "") =>
      [...samplesOf(name)].reduce((sum, [labels, value]) => (labels.includes(part) ? sum + value : sum), 0),
  };
}

const suffixesOf: Readonly<Record<string, readonly string[]>> = {
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["_sum", "_count"],
};

function addSample(
  family: { type: string; samples: Map<string, number> } | undefined,
  current: string,
  [, name = "", labels = "", value = ""]: RegExpExecArray,
  line: string,
): void {
  const suffix = name.slice(current.length);
  const suffixes = suffixesOf[family?.type ?? ""] ?? [""];
  if (!family || !name.startsWith(current) || !suffixes.includes(suffix)) throw new Error(`a sample astray: ${line}`);
  if (!LABELS.test(labels)) throw new Error(`labels of another form: ${line}`);
  const key = `${suffix}|${labels}`;
  if (family.samples.has(key)) throw new Error(`a sample twice: ${line}`);
  const number = value === "+Inf" ? Number.POSITIVE_INFINITY : Number(value);
  if (Number.isNaN(number)) throw new Error(`not a number: ${line}`);
  family.samples.set(key, number);
}

function checkFamily(name: string, { type, samples }: { type: string; samples: ReadonlyMap<string, number> }): void {
  if (samples.size === 0) throw new Error(`${name} has no samples`);
  if ((type === "counter") !== name.endsWith("_total"))
    throw new Error(`${name}: counters, and only they, end in _total`);
  if (type !== "histogram") return;
  const last = new Map<string, { count: number; bound: number }>();
  for (const [key, value] of samples) {
    const bucket = /^_bucket\|(.*?),?le="([^"]+)"$/.exec(key);
    if (!bucket) continue;
    const [, series = "", le = ""] = bucket;
    const bound = le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le);
    const before = last.get(series) ?? { count: 0, bound: Number.NEGATIVE_INFINITY };
    if (value < before.count || bound <= before.bound) throw new Error(`${name}: buckets out of order at ${key}`);
    last.set(series, { count: value, bound });
  }
  for (const [series, { count, bound }] of last) {
    if (
      bound !== Number.POSITIVE_INFINITY ||
      samples.get(`_count|${series}`) !== count ||
      !samples.has(`_sum|${series}`)
    )
      throw new Error(`${name}: a histogram without +Inf, sum or count: ${series}`);
  }
}
