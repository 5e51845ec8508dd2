// Starts Millrace itself as an operator would, with `up` on one machine and two GPU ids, and waits until both actors
// offer the benchmark's model. The environment is whole and explicit: no exported variable and no .env changes a run.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Children, freePort, until } from "./children.ts";
import { describeFamily } from "./processes.ts";
import type { Running } from "./running.ts";

export interface StackOptions {
  /** The runner that takes the tasks: `echo`, or `bench-echo` of bench/plugins with two slots an actor. */
  readonly model: "echo" | "bench-echo";
  /** Environment variables over the defaults below. */
  readonly settings: Readonly<Record<string, string>>;
}

const KEY = "bench-key";
const START = { timeoutMs: 60_000, everyMs: 5 };
const ACTORS = 2;

export async function startStack(folder: string, children: Children, options: StackOptions): Promise<Running> {
  const port = freePort();
  const dataDir = join(folder, "data");
  mkdirSync(dataDir);
  const env = {
    PORT: `${port}`,
    DATA_DIR: dataDir,
    API_KEYS: `bench:${KEY}`,
    GPU_IDS: "0,1",
    MODELS: options.model,
    PLUGINS_DIR: join(import.meta.dir, "plugins"),
    LOG_LEVEL: "warn", // as the peers
    ...options.settings,
  };
  const base = `http://127.0.0.1:${port}`;
  const startMs = performance.now();
  const main = join(import.meta.dir, "..", "src", "main.ts");
  const up = children.start("up", [process.execPath, main, "up"], { folder, env });
  await until("/health/ready", () => answersOk(`${base}/health/ready`), { children, ...START });
  const readyMs = Math.round(performance.now() - startMs);
  await until("both actors", () => hasActors(`${base}/v1/models/${options.model}`), { children, ...START });
  return { base, key: KEY, model: options.model, processes: describeFamily(up.pid), readyMs };
}

async function answersOk(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false; // nothing listens yet
  }
}

async function hasActors(url: string): Promise<boolean> {
  const answer = await fetch(url, { headers: { "x-api-key": KEY }, signal: AbortSignal.timeout(2_000) });
  if (!answer.ok) return false;
  const model = (await answer.json()) as { millrace?: { actors?: number } };
  return (model.millrace?.actors ?? 0) >= ACTORS;
}
