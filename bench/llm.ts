// What the gateway adds to a call of a model: `bun bench/llm.ts [--rounds 3] [--quick]`. The simulator with the `instant`
// profile is called straight, through a bare pass-through proxy, through Millrace and, where its package is (see
// bench/README.md), through @portkey-ai/gateway, in interleaved rounds; medians, and the spread of the ratios to the
// straight call of the same round.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Children, freePort, listens, until, withChildren } from "./children.ts";
import { benchHome, runFolder } from "./home.ts";
import type { LlmLoad } from "./llm-load.ts";
import { describeFamily, type NamedProcesses, processUse } from "./processes.ts";
import { table } from "./report.ts";
import { median, round } from "./statistics.ts";

interface Place {
  readonly name: string;
  readonly base: string;
  /** What works for it, besides the simulator. */
  readonly processes: NamedProcesses;
  /** Lines of a request's head that it needs. */
  readonly head?: string;
}

interface Phase {
  readonly c: number;
  readonly n: number;
  readonly tokens: number;
}

const phases: readonly Phase[] = [
  { c: 1, n: 400, tokens: 64 },
  { c: 64, n: 640, tokens: 128 },
  { c: 512, n: 1_024, tokens: 128 },
];

interface Row extends LlmLoad {
  readonly place: string;
  readonly phase: Phase;
  readonly round: number;
  /** CPU seconds of each process in the phase. */
  readonly cpu: Readonly<Record<string, number>>;
  readonly rssMb: Readonly<Record<string, number>>;
}

const KEY = "bench-key";
const MODEL = "millrace-sim";
const START = { timeoutMs: 60_000, everyMs: 20 };
const LOAD_MS_MAX = 300_000;
const main = join(import.meta.dir, "..", "src", "main.ts");

async function startPlaces(folder: string, children: Children, set: Record<string, string>): Promise<Place[]> {
  const [simPort, proxyPort, port] = [freePort(), freePort(), freePort()];
  const target = `http://127.0.0.1:${simPort}`;
  const sim = children.start("sim", [process.execPath, main, "sim"], { folder, env: { SIM_PORT: `${simPort}` } });
  await until("the simulator", () => listens(simPort), { children, ...START });
  const proxy = children.start("proxy", [process.execPath, join(import.meta.dir, "peers/llm-proxy.js")], {
    folder,
    env: { PORT: `${proxyPort}`, TARGET: target, BUN_CONFIG_MAX_HTTP_REQUESTS: "4096" },
  });
  await until("the proxy", () => listens(proxyPort), { children, ...START });
  const env = {
    PORT: `${port}`,
    DATA_DIR: join(folder, "data"),
    API_KEYS: `bench:${KEY}`,
    MODELS: "echo",
    DURABILITY: "fast",
    LOG_LEVEL: "warn",
    LLM_BASE_URL: target,
    ...set,
  };
  const up = children.start("up", [process.execPath, main, "up"], { folder, env });
  const base = `http://127.0.0.1:${port}`;
  await until("the model", () => hasModel(base), { children, ...START });
  const portkey = await startPortkey(folder, children, target);
  return [
    { name: "direct", base: target, processes: { sim: sim.pid } },
    { name: "proxy", base: `http://127.0.0.1:${proxyPort}`, processes: { sim: sim.pid, proxy: proxy.pid } },
    { name: "millrace", base, processes: { sim: sim.pid, ...describeFamily(up.pid) } },
    ...(portkey ? [{ ...portkey, processes: { sim: sim.pid, ...portkey.processes } }] : []),
  ];
}

/** On Bun, as the others: on Node 20 and 22 its 1.15.2 answers streams of a host of one's own with "immutable". */
async function startPortkey(folder: string, children: Children, target: string): Promise<Place | null> {
  const script = join(benchHome(), "npm/node_modules/@portkey-ai/gateway/build/start-server.js");
  if (!existsSync(script)) return null;
  const port = freePort();
  const command = [process.execPath, "--no-install", script, `--port=${port}`, "--headless"];
  const env = { BUN_CONFIG_MAX_HTTP_REQUESTS: "4096" };
  const { pid } = children.start("portkey", command, { folder, env });
  await until("portkey", () => listens(port), { children, ...START });
  const host = target.replace("127.0.0.1", "localhost"); // the loopback name that it trusts
  const head = `x-portkey-provider: openai\r\nx-portkey-custom-host: ${host}/v1\r\n`;
  return { name: "portkey", base: `http://127.0.0.1:${port}`, processes: { portkey: pid }, head };
}

async function hasModel(base: string): Promise<boolean> {
  const answer = await fetch(`${base}/v1/models/${MODEL}`, { headers: { "x-api-key": KEY } }).catch(() => null);
  return answer?.ok === true;
}

async function measure(place: Place, phase: Phase, round: number): Promise<Row> {
  const { c, n, tokens } = phase;
  console.error(`round ${round}: ${place.name}, ${c} at a time`);
  const before = processUse(place.processes);
  const flags = Object.entries({ base: place.base, key: KEY, model: MODEL, head: place.head ?? "", c, n, tokens });
  const command = [
    process.execPath,
    join(import.meta.dir, "llm-load.ts"),
    ...flags.flatMap(([k, v]) => [`--${k}`, `${v}`]),
  ];
  const generator = Bun.spawn(command, {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    timeout: LOAD_MS_MAX,
    killSignal: "SIGKILL",
  });
  const output = await generator.stdout.text();
  if ((await generator.exited) !== 0) throw new Error(`the load generator ended with ${generator.exitCode}`);
  const after = processUse(place.processes);
  const names = Object.keys(after);
  const cpuOf = (name: string): number => (after[name]?.cpu_s ?? 0) - (before[name]?.cpu_s ?? 0);
  return {
    ...(JSON.parse(output) as LlmLoad), // written by llm-load.ts of this very checkout
    place: place.name,
    phase,
    round,
    cpu: Object.fromEntries(names.map((name) => [name, cpuOf(name)])),
    rssMb: Object.fromEntries(names.map((name) => [name, after[name]?.rss_mb ?? Number.NaN])),
  };
}

async function run(rounds: number, scale: number, set: Record<string, string>, children: Children): Promise<Row[]> {
  const places = await startPlaces(runFolder("llm"), children, set);
  const rows: Row[] = [];
  for (const place of places) await measure(place, { c: 64, n: 128, tokens: 64 }, 0); // warm
  for (const phase of phases) {
    for (let number = 1; number <= rounds; number++) {
      // Another comes first in each round, so that none always follows the same one.
      const first = (number - 1) % places.length;
      for (const place of [...places.slice(first), ...places.slice(0, first)]) {
        const n = Math.max(phase.c, Math.round(phase.n * scale));
        rows.push(await measure(place, { ...phase, n }, number));
      }
    }
  }
  return rows;
}

function report(rows: readonly Row[], phase: Phase): string {
  const places = [...new Set(rows.map(({ place }) => place))];
  const of = (place: string): Row[] => rows.filter((row) => row.phase.c === phase.c && row.place === place);
  const direct = of("direct");
  const lines = places.map((place) => {
    const mine = of(place);
    const middle = (value: (row: Row) => number): number => median(mine.map(value));
    const ratios = mine.map(
      (row) => row.wall_ms / (direct.find((one) => one.round === row.round)?.wall_ms ?? Number.NaN),
    );
    const [whole] = direct;
    const expected = whole ? whole.events / whole.streams : Number.NaN;
    const lost = mine.reduce((sum, row) => sum + row.streams * expected - row.events, 0);
    const cpu = Object.keys(mine[0]?.cpu ?? {}).map(
      (name) =>
        `${name} ${round(
          middle((row) => row.cpu[name] ?? 0),
          2,
        )}`,
    );
    const rss = Object.keys(mine[0]?.rssMb ?? {}).map(
      (name) =>
        `${name} ${round(
          middle((row) => row.rssMb[name] ?? 0),
          0,
        )}`,
    );
    const { min, max } = { min: Math.min(...ratios), max: Math.max(...ratios) };
    return [
      place,
      `${round(
        middle((row) => row.ttft_ms.p50),
        2,
      )} / ${round(
        middle((row) => row.ttft_ms.p99),
        2,
      )}`,
      `${round(
        middle((row) => row.per_token_us.p50),
        0,
      )}`,
      `${round(
        middle((row) => row.wall_ms),
        0,
      )}`,
      `${round(median(ratios), 2)} (${round(min, 2)} to ${round(max, 2)})`,
      `${lost} / ${mine.reduce((sum, row) => sum + row.errors, 0)}`,
      cpu.join(", "),
      rss.join(", "),
    ];
  });
  const head = ["", "TTFT p50 / p99 ms", "µs a token", "wall ms", "of direct", "lost / errors", "CPU s", "RSS MB"];
  return `C=${phase.c}, ${phase.tokens} tokens a stream\n\n${table(head, lines)}\n`;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "3" },
      quick: { type: "boolean", default: false },
      set: { type: "string", multiple: true, default: [] },
    },
  });
  const set = Object.fromEntries(values.set.map((pair) => pair.split(/=(.*)/s).slice(0, 2) as [string, string]));
  const rows = await withChildren((children) => run(Number(values.rounds), values.quick ? 0.25 : 1, set, children));
  for (const phase of phases) console.log(report(rows, phase));
}
