// `up` as an operator meets it: real processes, killed in every way, and what is left of them.
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./stack.ts";

setDefaultTimeout(30_000);

const main = join(import.meta.dir, "../src/main.ts");
const KEY = "up-test-key";
let dataDir = "";
const started: Up[] = [];

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace up "));
});
afterEach(async () => {
  for (const up of started.splice(0)) {
    up.process.kill("SIGKILL");
    await up.ended;
  }
  await rm(dataDir, { recursive: true, force: true });
});

type LogLine = Readonly<Record<string, unknown>> & { readonly message: string };

interface Up {
  readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** The gateway's address; throws what `up` said when it ended before it was ready. */
  ready(): Promise<string>;
  /** Standard error, when `up` and every child that shares it are gone. */
  readonly ended: Promise<string>;
  /** The first log line, past or to come, that has these fields. */
  logged(fields: Readonly<Record<string, unknown>>): Promise<LogLine>;
  output(): string;
}

function start(settings: Readonly<Record<string, string>> = {}): Up {
  const env = {
    ...process.env,
    DATA_DIR: dataDir,
    PORT: "0",
    MODELS: "echo",
    DURABILITY: "fast",
    SIM_PORT: "0",
    LOG_LEVEL: "info",
  };
  const child = Bun.spawn([process.execPath, main, "up"], {
    env: { ...env, API_KEYS: `test:${KEY}`, ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const url = Promise.withResolvers<string | null>();
  const waiting = new Set<() => void>();
  const lines: LogLine[] = [];
  let output = "";
  const readOutput = async (): Promise<void> => {
    for await (const chunk of child.stdout) {
      output += Buffer.from(chunk).toString();
      const found = /^ {2}API +(\S+)$/m.exec(output)?.[1];
      if (found && output.includes("Ctrl-C")) url.resolve(found);
    }
    url.resolve(null);
  };
  const readErrors = async (): Promise<string> => {
    let text = "";
    let rest = "";
    for await (const chunk of child.stderr) {
      text += Buffer.from(chunk).toString();
      rest += Buffer.from(chunk).toString();
      const whole = rest.split("\n");
      rest = whole.pop() ?? "";
      lines.push(...whole.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as LogLine));
      for (const look of waiting) look();
    }
    return text;
  };
  const up: Up = {
    process: child,
    ready: async () => (await url.promise) ?? Promise.reject(new Error(`up ended: ${await up.ended}`)),
    ended: Promise.all([readErrors(), readOutput(), child.exited]).then(([errors]) => errors),
    output: () => output,
    logged: (fields) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = lines.find((line) => Object.entries(fields).every(([name, value]) => line[name] === value));
          if (found && waiting.delete(look)) resolve(found);
        };
        waiting.add(look);
        look();
      }),
  };
  started.push(up);
  return up;
}

const pidOf = async (name: string): Promise<number> =>
  (JSON.parse(await readFile(join(dataDir, "run", `${name}.pid`), "utf8")) as { pid: number }).pid;

const call = (url: string, path: string, init: RequestInit = {}): Promise<Response> =>
  fetch(url + path, { ...init, headers: { "x-api-key": KEY, "content-type": "application/json", ...init.headers } });

async function runTask(url: string, text: string): Promise<{ status: string }> {
  const body = JSON.stringify({ model: "echo", input: { text } });
  const response = await call(url, "/v1/tasks", { method: "POST", body, headers: { prefer: "wait=20" } });
  return (await response.json()) as { status: string };
}

/** A connection to the broker; `closed` resolves when the broker is gone. */
async function watchBroker(): Promise<{ readonly closed: Promise<void> }> {
  const port = Number(new URL(await readFile(join(dataDir, "nats/url"), "utf8")).port);
  const socket = connectTcp(port, "127.0.0.1");
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()).on("error", () => {}));
  await new Promise((resolve) => socket.once("data", resolve));
  return { closed };
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test("up is ready, runs a task, and SIGTERM ends all of it in order with exit code 0", async () => {
  const up = start();
  const url = await up.ready();
  expect(await runTask(url, "hello")).toMatchObject({ status: "SUCCESS" });
  expect(up.output()).toContain(`\n  data    ${dataDir}\n`);
  expect(up.output()).not.toContain(KEY);
  expect(up.output()).not.toMatch(/nats:\/\/[^/ ]*@/);
  const pids = await Promise.all(["broker", "gateway", "actor-0"].map(pidOf));
  up.process.kill("SIGTERM");
  await up.ended;
  expect(up.process.exitCode).toBe(0);
  expect(pids.filter(isAlive)).toEqual([]);
  expect((await readdir(join(dataDir, "run"))).filter((name) => /\.(pid|board)$/.test(name))).toEqual([]);
});

test("a gateway and a broker killed with -9 come back where they were, with the tasks", async () => {
  const up = start();
  const url = await up.ready();
  const { task_id: id } = (await runTask(url, "kept")) as unknown as { task_id: string };

  process.kill(await pidOf("gateway"), "SIGKILL");
  expect(await up.logged({ message: "a child process died", process: "gateway" })).toMatchObject({ signal: "SIGKILL" });
  await up.logged({ message: "child is ready", process: "gateway", start: 2 });
  expect(await (await call(url, `/v1/tasks/${id}`)).json()).toMatchObject({ status: "SUCCESS" });

  process.kill(await pidOf("broker"), "SIGKILL");
  await up.logged({ message: "the broker runs again" });
  // Each process has several connections: it is ready when all of them are back.
  await until("the gateway is ready", 20_000, async () => {
    const ready = await fetch(`${url}/health/ready`).catch(() => null);
    return ready?.status === 200 ? true : null;
  });
  expect(await runTask(url, "again")).toMatchObject({ status: "SUCCESS" });
});

test("the job of an actor killed with -9 is handed back at once and ends on the next one", async () => {
  const up = start();
  const url = await up.ready();
  const body = JSON.stringify({ model: "echo", input: { text: "long", sleep_ms: 300 } });
  const { task_id: id } = (await (await call(url, "/v1/tasks", { method: "POST", body })).json()) as {
    task_id: string;
  };
  const events = await call(url, `/v1/tasks/${id}/events`);
  let seen = "";
  let killed = false;
  for await (const chunk of events.body ?? []) {
    seen += Buffer.from(chunk).toString();
    if (!killed && seen.includes("event: STARTED")) {
      killed = true;
      process.kill(await pidOf("actor-0"), "SIGKILL");
    }
  }
  expect([...seen.matchAll(/^event: (.*)$/gm)].map((match) => match[1])).toEqual([
    "PENDING",
    "STARTED",
    "RETRY",
    "STARTED",
    "SUCCESS",
  ]);
  const task = (await (await call(url, `/v1/tasks/${id}`)).json()) as { attempt: number; timing: { queue_ms: number } };
  expect(task.attempt).toBe(2);
  expect(await up.logged({ message: "the jobs of a dead actor were handed back" })).toMatchObject({ jobs: 1 });
});

test("kill -9 of the supervisor leaves no process, and the next one starts at once", async () => {
  const up = start();
  await up.ready();
  const pids = await Promise.all(["gateway", "actor-0"].map(pidOf));
  const broker = await watchBroker();
  const killedAt = performance.now();
  up.process.kill("SIGKILL");
  await up.ended; // its children share standard error
  await broker.closed;
  expect(performance.now() - killedAt).toBeLessThan(3_000);
  expect(pids.filter(isRunning)).toEqual([]);

  const next = start();
  expect(await runTask(await next.ready(), "next")).toMatchObject({ status: "SUCCESS" });
});

/** Alive and no zombie: nobody reaps the orphans of a killed parent in a container without init. */
const isRunning = (pid: number): boolean => isAlive(pid) && !/State:\s+Z/.test(statusOf(pid));
const statusOf = (pid: number): string =>
  Bun.spawnSync(["cat", `/proc/${pid}/status`], { stderr: "ignore" }).stdout.toString();

test("a second up on the same DATA_DIR is refused and names the first", async () => {
  const first = start();
  const url = await first.ready();
  const second = start({ LOG_LEVEL: "silent" });
  const errors = await second.ended;
  expect(second.process.exitCode).toBe(1);
  expect(errors).toBe(
    `millrace: another \`up\` (pid ${first.process.pid}) uses DATA_DIR ${dataDir}; stop it, or set DATA_DIR and PORT to others\n`,
  );
  expect(await runTask(url, "untouched")).toMatchObject({ status: "SUCCESS" });
});

test("rebuild is refused while up runs; afterwards it borrows the broker and keeps every task", async () => {
  const rebuild = () =>
    Bun.spawn([process.execPath, main, "rebuild"], {
      env: { ...process.env, DATA_DIR: dataDir, DURABILITY: "fast", LOG_LEVEL: "silent" },
      stdio: ["ignore", "pipe", "pipe"],
    });
  const up = start();
  const { task_id: id } = (await runTask(await up.ready(), "kept")) as unknown as { task_id: string };
  await using refused = rebuild();
  expect(await refused.stderr.text()).toContain(`(pid ${up.process.pid})`);
  expect(await refused.exited).toBe(1);
  up.process.kill("SIGTERM");
  await up.ended;

  await using allowed = rebuild();
  expect(await allowed.stdout.text()).toMatch(/^read model rebuilt from [1-9]\d* records\n$/);
  expect(await allowed.exited).toBe(0);
  const next = start();
  const task = await call(await next.ready(), `/v1/tasks/${id}`);
  expect(await task.json()).toMatchObject({ task_id: id, status: "SUCCESS" });
});

test("a taken port is one line on standard error, exit code 1, and nothing left", async () => {
  using other = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const up = start({ PORT: String(other.port), LOG_LEVEL: "silent" });
  const errors = await up.ended;
  expect(errors).toMatch(new RegExp(`^millrace: .*${other.port}.*\n$`));
  expect(up.process.exitCode).toBe(1);
  expect(up.output()).toBe("");
  expect(await readdir(join(dataDir, "run"))).not.toContain("broker.pid");
});

test("a missing nats-server is one line that says what to do", async () => {
  const up = start({ NATS_SERVER_BIN: "/nowhere/nats-server", LOG_LEVEL: "silent" });
  expect(await up.ended).toMatch(/^millrace: NATS_SERVER_BIN is \/nowhere\/nats-server, .*\n$/);
  expect(up.process.exitCode).toBe(1);
});

test("an actor that its killed supervisor left hanging is ended by the next up", async () => {
  const up = start();
  await up.ready();
  const pid = await pidOf("actor-0");
  process.kill(pid, "SIGSTOP");
  up.process.kill("SIGKILL");
  const next = start();
  expect(await runTask(await next.ready(), "next")).toMatchObject({ status: "SUCCESS" });
  await up.ended; // its children share standard error
  expect(isRunning(pid)).toBe(false);
  expect(await next.logged({ process: "actor-0", process_pid: pid })).toMatchObject({ level: 40 });
});

const STUBBORN = `import { defineRunner, t } from "millrace";
export default defineRunner({
  name: "stubborn", version: "1.0.0", summary: "Heeds no signal.", input: t.Object({}), output: t.Object({}),
  prepare: () => null, infer: () => new Promise(() => {}), postprocess: () => ({}),
});`;

test("a second signal ends it at once, whatever a runner does", async () => {
  const plugins = join(dataDir, "my plugins");
  await mkdir(plugins);
  await writeFile(join(plugins, "stubborn.ts"), STUBBORN);
  const up = start({ PLUGINS_DIR: plugins, MODELS: "stubborn" });
  const url = await up.ready();
  const body = JSON.stringify({ model: "stubborn", input: {} });
  const { task_id: id } = (await (await call(url, "/v1/tasks", { method: "POST", body })).json()) as {
    task_id: string;
  };
  const events = await call(url, `/v1/tasks/${id}/events`);
  let seen = "";
  for await (const chunk of events.body ?? []) {
    seen += Buffer.from(chunk).toString();
    if (seen.includes("event: STARTED")) break;
  }
  expect(seen).toContain("event: STARTED");
  up.process.kill("SIGINT");
  await up.logged({ message: "actor drains" });
  const secondAt = performance.now();
  up.process.kill("SIGTERM"); // another one: the same so soon would count as an echo
  await up.ended;
  expect(performance.now() - secondAt).toBeLessThan(3_000);
  expect(up.process.exitCode).toBe(0);
});

const serverOf = (up: Up): string => /^ {2}LLM +(\S+)/m.exec(up.output())?.[1] ?? "";
const modelsOf = async (url: string): Promise<unknown> => (await fetch(`${url}/models`)).json();

test("without LLM_BASE_URL a simulator serves; killed with -9 it comes back where it was", async () => {
  const up = start();
  const gateway = await up.ready();
  const url = serverOf(up);
  expect(await modelsOf(url)).toMatchObject({ data: [{ id: "millrace-sim", owned_by: "vllm" }] });
  expect(up.output()).toMatch(new RegExp(`^ {2}OpenAI +${gateway}/v1 `, "m"));
  const urlFile = join(dataDir, "run/simulator.url"); // for gateways and actors that are started beside it
  expect(await readFile(urlFile, "utf8")).toBe(url);
  process.kill(await pidOf("simulator"), "SIGKILL");
  await up.logged({ message: "child is ready", process: "simulator", start: 2 });
  expect(await modelsOf(url)).toMatchObject({ data: [{ id: "millrace-sim" }] });
  up.process.kill("SIGTERM");
  await up.ended;
  expect([up.process.exitCode, existsSync(urlFile)]).toEqual([0, false]);
});

test("the simulator leaves a taken port to its owner", async () => {
  using taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const up = start({ SIM_PORT: String(taken.port) });
  await up.ready();
  expect(await up.logged({ message: "the simulator's port is taken: it takes another one" })).toMatchObject({
    port: taken.port,
  });
  expect(Number(new URL(serverOf(up)).port)).not.toBe(taken.port);
  expect(await modelsOf(serverOf(up))).toMatchObject({ object: "list" });
});

test.each([{ LLM_BASE_URL: "http://127.0.0.1:9/v1" }, { ENV: "prod", API_KEYS: `test:${"k".repeat(32)}` }])(
  "there is none with %j",
  async (settings) => {
    const up = start(settings);
    await up.ready();
    expect(up.output()).not.toContain("simulator");
    expect(serverOf(up)).toBe("LLM_BASE_URL" in settings ? settings.LLM_BASE_URL : "");
    expect(await readdir(join(dataDir, "run"))).not.toContain("simulator.pid");
  },
);
