// Child processes of a benchmark: started with a log file each, stopped in reverse order, none left behind. Also the
// port and wait primitives that their start-up needs. Nothing here knows what the children are.
import { openSync } from "node:fs";
import { join } from "node:path";

export interface Child {
  readonly name: string;
  readonly pid: number;
}

export interface ChildOptions {
  readonly folder: string;
  /** The whole environment, besides PATH, HOME and LANG: what happens to be exported here must not change a run. */
  readonly env: Readonly<Record<string, string>>;
}

/** Long enough for RabbitMQ to close its tables. */
const STOP_MS_MAX = 20_000;

export class Children {
  #running: { child: Child; process: Bun.Subprocess }[] = [];

  /** Starts `command`; its output goes to `<folder>/<name>.log`. */
  start(name: string, command: readonly string[], options: ChildOptions): Child {
    const log = openSync(join(options.folder, `${name}.log`), "a");
    const env = { ...inherited(), ...options.env };
    const process = Bun.spawn([...command], { cwd: options.folder, env, stdin: "ignore", stdout: log, stderr: log });
    const child = { name, pid: process.pid };
    this.#running.push({ child, process });
    return child;
  }

  get list(): readonly Child[] {
    return this.#running.map(({ child }) => child);
  }

  /** Throws when a child has ended although nobody stopped it. */
  check(): void {
    for (const { child, process } of this.#running) {
      if (process.exitCode !== null) throw new Error(`${child.name} ended with ${process.exitCode}; see its log`);
    }
  }

  /** Ends some of them with `signal` and waits for it; a child that has ended by itself is fine too. */
  async end(ended: readonly Child[], signal: NodeJS.Signals): Promise<void> {
    const pids = new Set(ended.map(({ pid }) => pid));
    const leaving = this.#running.filter(({ child }) => pids.has(child.pid));
    this.#running = this.#running.filter(({ child }) => !pids.has(child.pid));
    await Promise.all(leaving.map(({ process }) => endProcess(process, signal)));
  }

  /** Stops all, the last started first; those that do not heed SIGTERM are killed. More can be started afterwards. */
  async stop(): Promise<void> {
    for (const { process } of this.#running.splice(0).reverse()) await endProcess(process, "SIGTERM");
  }
}

async function endProcess(child: Bun.Subprocess, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal);
  const patience = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
  await child.exited;
  clearTimeout(patience);
}

/** Runs `main` with children that are stopped when it ends, and when the process is interrupted. */
export async function withChildren<T>(main: (children: Children) => Promise<T>): Promise<T> {
  const children = new Children();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void children.stop().finally(() => process.exit(130)));
  }
  try {
    return await main(children);
  } finally {
    await children.stop();
  }
}

/** A TCP port that was free a moment ago, on 127.0.0.1. */
export function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** Resolves when `holds` does, asking every `everyMs`. Throws after `timeoutMs`, or when a child has ended meanwhile. */
export async function until(
  what: string,
  holds: () => Promise<boolean>,
  options: { readonly children: Children; readonly timeoutMs: number; readonly everyMs: number },
): Promise<void> {
  const deadlineMs = performance.now() + options.timeoutMs;
  while (!(await holds())) {
    options.children.check();
    if (performance.now() > deadlineMs) throw new Error(`${what}: not in ${options.timeoutMs} ms`);
    await Bun.sleep(options.everyMs);
  }
}

export async function listens(port: number): Promise<boolean> {
  try {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}

function inherited(): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of ["PATH", "HOME", "LANG", "TMPDIR"]) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}
