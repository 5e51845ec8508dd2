// The whole service for a test: `up` in processes of its own, on free ports and a temporary DATA_DIR, as an operator
// would run it. Everything it started is gone after stop().
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bus, openBus } from "../src/bus/connection.ts";
import { silentLog } from "../src/log.ts";

export interface StackOptions {
  /** As in API_KEYS; default `test:stack-test-key`. */
  readonly apiKeys?: string;
  /** Further settings, by name. Default: MODELS=*, DURABILITY=fast, one actor. */
  readonly settings?: Readonly<Record<string, string>>;
  /** An existing folder, which stop() leaves as it is. Default: a temporary one. */
  readonly dataDir?: string;
}

export interface TaskJson {
  readonly task_id: string;
  readonly status: string;
  readonly attempt: number;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string; readonly retryable: boolean };
  readonly [field: string]: unknown;
}

export interface Stack {
  readonly url: string;
  readonly key: string;
  readonly dataDir: string;
  readonly natsUrl: string;
  /** A connection to its broker, closed by stop(). */
  readonly bus: Bus;
  /** The supervisor: its exit code once it has ended. */
  readonly up: { readonly pid: number; readonly exited: Promise<number> };
  /** Calls the API with the key. `body` is sent as JSON. */
  call(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Response>;
  /** Submits a task; the status of the answer must be 202 or 200. */
  submit(body: object, headers?: Readonly<Record<string, string>>): Promise<TaskJson>;
  read(taskId: string): Promise<TaskJson>;
  /** The task when it has ended; throws after `withinMs`. */
  ended(taskId: string, withinMs?: number): Promise<TaskJson>;
  /** The task once it is STARTED; throws when it ended or after `withinMs`. */
  started(taskId: string, withinMs?: number): Promise<TaskJson>;
  /** Looks until `look` finds something; throws after `withinMs`. */
  until<T>(what: string, withinMs: number, look: () => Promise<T | null>): Promise<T>;
  /** Process id of `gateway`, `actor-0` or `nats-server`, as it is now. */
  pidOf(name: string): Promise<number>;
  /** Log lines so far. */
  log(): readonly Readonly<Record<string, unknown>>[];
  /** Resolves to the first log line, past or to come, with these fields. */
  logged(fields: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, unknown>>>;
  /** Resolves when the gateway answers that all its parts are ready; throws after `withinMs`. */
  ready(withinMs?: number): Promise<void>;
  stop(): Promise<void>;
  /** `kill -9` of the supervisor; resolves when all its children are gone too. stop() is still to be called. */
  kill(): Promise<void>;
}

const MAIN = join(import.meta.dir, "../src/main.ts");
const START_MS_MAX = 30_000;

/** What `look` finds, asked again and again until it is not null; throws after `withinMs`. */
export async function until<T>(what: string, withinMs: number, look: () => Promise<T | null>): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > deadline) throw new Error(`${what} not within ${withinMs} ms`);
    await Bun.sleep(10);
  }
}

export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), "millrace test ")));
  const apiKeys = options.apiKeys ?? "test:stack-test-key";
  const key = apiKeys.split(",")[0]?.split(":").at(-1) ?? "";
  const child = Bun.spawn([process.execPath, MAIN, "up"], {
    env: {
      PATH: process.env.PATH ?? "",
      HOME: process.env.HOME ?? "",
      ENV: "dev",
      DATA_DIR: dataDir,
      PORT: "0",
      DURABILITY: "fast",
      LOG_LEVEL: "info",
      SIM_PORT: "0",
      API_KEYS: apiKeys,
      ...options.settings,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const log = readLog(child.stderr);
  const url = await bannerUrl(child.stdout).catch(async (error) => {
    child.kill("SIGKILL");
    await child.exited;
    throw new Error(`${error.message}: ${JSON.stringify(log.lines)}`);
  });
  const natsUrl = options.settings?.NATS_URL ?? (await readFile(join(dataDir, "nats/url"), "utf8")).trim();
  const bus = await openBus(natsUrl, "test", silentLog);

  const call: Stack["call"] = (method, path, body, headers) =>
    fetch(url + path, {
      method,
      headers: { "x-api-key": key, ...(body !== undefined && { "content-type": "application/json" }), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  const read = async (taskId: string): Promise<TaskJson> =>
    (await (await call("GET", `/v1/tasks/${taskId}`)).json()) as TaskJson;
  return {
    url,
    key,
    dataDir,
    natsUrl,
    bus,
    up: { pid: child.pid, exited: child.exited },
    call,
    read,
    until,
    async submit(body, headers) {
      const response = await call("POST", "/v1/tasks", body, headers);
      const text = await response.text();
      if (response.status !== 202 && response.status !== 200) throw new Error(`submit: ${response.status} ${text}`);
      return JSON.parse(text) as TaskJson;
    },
    async ended(taskId, withinMs = 20_000) {
      const waitS = Math.max(1, Math.min(60, Math.ceil(withinMs / 1_000)));
      const look = async () => {
        const response = await call("GET", `/v1/tasks/${taskId}`, undefined, { prefer: `wait=${waitS}` }).catch(
          () => null,
        );
        return response?.status === 200 ? ((await response.json()) as TaskJson) : null;
      };
      return until(`end of ${taskId}`, withinMs, look);
    },
    started: (taskId, withinMs = 10_000) =>
      until(`start of ${taskId}`, withinMs, async () => {
        const task = await read(taskId);
        if (task.status === "STARTED") return task;
        if (["SUCCESS", "FAILURE", "CANCELLED"].includes(task.status))
          throw new Error(`ended: ${JSON.stringify(task)}`);
        return null;
      }),
    async pidOf(name) {
      if (name === "nats-server") return brokerPid(join(dataDir, "nats/ports"));
      return (JSON.parse(await readFile(join(dataDir, "run", `${name}.pid`), "utf8")) as { pid: number }).pid;
    },
    log: () => log.lines,
    logged: log.logged,
    async ready(withinMs = 20_000) {
      await until("ready", withinMs, async () => {
        const response = await fetch(`${url}/health/ready`).catch(() => null);
        return response?.status === 200 ? true : null;
      });
    },
    async stop() {
      await bus.close();
      child.kill("SIGTERM");
      // A second signal ends at once what would be drained for longer.
      const atOnce = setTimeout(() => child.kill("SIGTERM"), 2_000);
      const killed = setTimeout(() => child.kill("SIGKILL"), 20_000);
      await child.exited;
      clearTimeout(atOnce);
      clearTimeout(killed);
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true });
    },
    async kill() {
      child.kill("SIGKILL");
      await child.exited;
      await log.ended; // its children share its standard error
    },
  };
}

/** The broker writes its ports into a file that has its process id in the name, and takes it away when it ends. */
async function brokerPid(folder: string): Promise<number> {
  const pids = (await readdir(folder)).map((name) => Number(/_(\d+)\.ports$/.exec(name)?.[1]));
  return Math.max(...pids.filter((pid) => pid > 0 && existsSync(`/proc/${pid}`)));
}

async function bannerUrl(output: ReadableStream<Uint8Array>): Promise<string> {
  const found = Promise.withResolvers<string>();
  const late = setTimeout(() => found.reject(new Error(`not ready within ${START_MS_MAX} ms`)), START_MS_MAX);
  const reading = async (): Promise<void> => {
    let text = "";
    for await (const chunk of output) {
      text += Buffer.from(chunk).toString();
      const url = /^ {2}API +(\S+)$/m.exec(text)?.[1];
      if (url && text.includes("Ctrl-C")) found.resolve(url);
    }
    found.reject(new Error("up ended before it was ready"));
  };
  reading().catch(found.reject);
  return found.promise.finally(() => clearTimeout(late));
}

/** The log lines of a process, as they come. */
export function readLog(stream: ReadableStream<Uint8Array>) {
  type Line = Readonly<Record<string, unknown>>;
  const lines: Line[] = [];
  const watchers = new Set<() => void>();
  const reading = async (): Promise<void> => {
    let rest = "";
    for await (const chunk of stream) {
      rest += Buffer.from(chunk).toString();
      const whole = rest.split("\n");
      rest = whole.pop() ?? "";
      for (const line of whole) lines.push(line.startsWith("{") ? (JSON.parse(line) as Line) : { message: line });
      for (const look of watchers) look();
    }
  };
  const ended = reading();
  const logged = (fields: Line): Promise<Line> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = lines.find((line) => Object.entries(fields).every(([name, value]) => line[name] === value));
        if (!found) return;
        watchers.delete(look);
        resolve(found);
      };
      watchers.add(look);
      look();
    });
  return { lines: lines as readonly Line[], logged, ended };
}
