// A real PostgreSQL for the tests: Debian's package, in a temporary folder, on a free port of 127.0.0.1, without fsync.
// One server serves all files of a test run and goes with it, also when the run is killed.
import { readdirSync } from "node:fs";
import { chown, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface PostgresServer {
  /** `postgres://…` of a database that is empty at the start. */
  readonly url: string;
  /** SIGQUIT, as a crash: resolves when it is gone. */
  kill(): Promise<void>;
  /** After kill(): on the same port and data. */
  restart(): Promise<void>;
  /** SIGSTOP and SIGCONT to the server and all its processes: connections stand, and nobody answers. */
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
}

const START_MS_MAX = 20_000;

/** The folder with `initdb` and `postgres`, or null where PostgreSQL is not installed. */
function binaryFolder(): string | null {
  const debian = "/usr/lib/postgresql";
  try {
    const versions = readdirSync(debian).map(Number).filter(Number.isFinite);
    return versions.length > 0 ? join(debian, String(Math.max(...versions)), "bin") : null;
  } catch {
    const found = Bun.which("postgres");
    return found && Bun.which("initdb") ? join(found, "..") : null;
  }
}

const asRoot = process.getuid?.() === 0;

/** Why there is no PostgreSQL to test with; null where there is one. */
export function postgresMissing(): string | null {
  if (process.env.MILLRACE_TEST_DATABASE_URL) return null;
  if (binaryFolder() === null) return "needs PostgreSQL: apt-get install postgresql, or MILLRACE_TEST_DATABASE_URL";
  return Bun.which("setpriv") ? null : "needs setpriv of util-linux, or MILLRACE_TEST_DATABASE_URL";
}

/** A command that ends with this process. PostgreSQL refuses to run as root: there it is its package's own user. */
const guarded = (...command: string[]): string[] => {
  const user = asRoot ? ["--reuid=postgres", "--regid=postgres", "--clear-groups"] : [];
  return ["setpriv", ...user, "--pdeathsig", "QUIT", join(binaryFolder() ?? "", command[0] ?? ""), ...command.slice(1)];
};

/** A server of a test's own, to be stopped by it. */
export async function startPostgres(): Promise<PostgresServer> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-postgres-"));
  if (asRoot) await chown(folder, ...(await idsOf("postgres")));
  const data = join(folder, "data");
  const init = Bun.spawn(guarded("initdb", "-D", data, "-U", "millrace", "-A", "trust", "-E", "UTF8", "--no-sync"), {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  if ((await init.exited) !== 0) throw new Error(`initdb: ${await new Response(init.stderr).text()}`);
  const port = await freePort();
  let server = await run(folder, port);
  const ended = async (signal: NodeJS.Signals): Promise<void> => {
    server.kill(signal);
    await server.exited;
  };
  const signalAll = (signal: NodeJS.Signals): void => {
    const children = Bun.spawnSync(["ps", "-o", "pid=", "--ppid", String(server.pid)]).stdout.toString();
    for (const pid of [server.pid, ...children.trim().split(/\s+/).map(Number)]) if (pid > 0) process.kill(pid, signal);
  };
  return {
    url: `postgres://millrace@127.0.0.1:${port}/postgres`,
    kill: () => ended("SIGQUIT"),
    async restart() {
      server = await run(folder, port);
    },
    freeze: () => signalAll("SIGSTOP"),
    thaw: () => signalAll("SIGCONT"),
    async stop() {
      await ended("SIGQUIT");
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Resolves when the server takes connections. */
async function run(folder: string, port: number): Promise<Bun.Subprocess<"ignore", "ignore", "pipe">> {
  const settings = [
    "listen_addresses=127.0.0.1",
    `unix_socket_directories=${folder}`,
    "fsync=off",
    "full_page_writes=off",
  ];
  const child = Bun.spawn(
    guarded("postgres", "-D", join(folder, "data"), "-p", String(port), ...settings.flatMap((each) => ["-c", each])),
    { cwd: folder, stdio: ["ignore", "ignore", "pipe"] },
  );
  const ready = Promise.withResolvers<void>();
  const late = setTimeout(() => ready.reject(new Error(`PostgreSQL not ready: ${said}`)), START_MS_MAX);
  let said = "";
  const reading = async (): Promise<void> => {
    for await (const chunk of child.stderr) {
      if (said.length < 10_000) said += Buffer.from(chunk).toString();
      if (said.includes("database system is ready to accept connections")) ready.resolve();
    }
    ready.reject(new Error(`PostgreSQL ended: ${said}`));
  };
  reading().catch(ready.reject);
  await ready.promise.finally(() => clearTimeout(late));
  return child;
}

async function idsOf(user: string): Promise<[number, number]> {
  const line = (await Bun.file("/etc/passwd").text()).split("\n").find((each) => each.startsWith(`${user}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return [Number(uid), Number(gid)];
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

const SHARED = Symbol.for("millrace.test.postgres");
/** Every file of a run loads this module anew; what they share hangs on the process. */
const shared = globalThis as { [SHARED]?: Promise<PostgresServer> };

/** `postgres://…` of the server that this test run shares: MILLRACE_TEST_DATABASE_URL, or one started at first use. */
export function sharedPostgres(): Promise<string> {
  const given = process.env.MILLRACE_TEST_DATABASE_URL;
  if (given) return Promise.resolve(given);
  shared[SHARED] ??= startPostgres();
  return shared[SHARED].then((server) => server.url);
}

export async function stopSharedPostgres(): Promise<void> {
  await (await shared[SHARED])?.stop();
  delete shared[SHARED];
}
