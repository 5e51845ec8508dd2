// Starts the systems that Millrace is compared with, each on free ports of 127.0.0.1 and with all of its data in the
// run's folder. Their scripts are in peers/, their packages outside the repository (bench/README.md).
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Children, freePort, listens, until } from "./children.ts";
import { benchHome } from "./home.ts";
import type { NamedProcesses } from "./processes.ts";
import type { Running } from "./running.ts";

export interface PeerOptions {
  /** Redis fsyncs every write; RabbitMQ confirms every publish. */
  readonly durable: boolean;
  /** Tasks at once. */
  readonly slots: number;
}

const scripts = join(import.meta.dir, "peers");
const START = { timeoutMs: 60_000, everyMs: 50 };

export async function startBullmq(folder: string, children: Children, options: PeerOptions): Promise<Running> {
  const redisPort = await startRedis(folder, children, options.durable);
  const port = freePort();
  const env = {
    ...npmEnv("bullmq"),
    DATA_DIR: folder,
    PORT: `${port}`,
    REDIS_PORT: `${redisPort}`,
    CONCURRENCY: `${options.slots}`,
  };
  children.start("worker", [process.execPath, "--no-install", join(scripts, "bullmq-worker.js")], { folder, env });
  children.start("http", [process.execPath, "--no-install", join(scripts, "bullmq-api.js")], { folder, env });
  await until("the BullMQ API", () => listens(port), { children, ...START });
  await settle(children, 500); // the worker has no port to ask
  return running(port, children);
}

export async function startCelery(folder: string, children: Children, options: PeerOptions): Promise<Running> {
  const redisPort = await startRedis(folder, children, options.durable);
  const amqpPort = await startRabbitmq(folder, children);
  const port = freePort();
  const env = {
    DATA_DIR: folder,
    REDIS_PORT: `${redisPort}`,
    AMQP_PORT: `${amqpPort}`,
    CONFIRM: options.durable ? "1" : "0",
    PYTHONPATH: scripts,
    PYTHONDONTWRITEBYTECODE: "1",
  };
  const python = "/usr/bin/python3"; // Debian's, for its packages; another python3 may stand first on PATH
  const queues = "gpu-high,gpu-normal,gpu-low";
  const celery = ["celery", "-A", "celery_app", "worker", "-c", `${options.slots}`, "-Q", queues, "-O", "fair"];
  const quiet = ["--without-gossip", "--without-mingle", "-l", "warning"];
  children.start("worker", [python, "-m", ...celery, ...quiet], { folder, env });
  const server = ["uvicorn", "fastapi_app:api", "--host", "127.0.0.1", "--port", `${port}`, "--workers", "2"];
  const fast = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"];
  children.start("http", [python, "-m", ...server, ...fast], { folder, env });
  await until("the FastAPI server", () => listens(port), { children, ...START });
  await settle(children, 2_500); // both uvicorn workers and the four Celery children
  return running(port, children);
}

export async function startBare(folder: string, children: Children): Promise<Running> {
  const port = freePort();
  const env = { PORT: `${port}` };
  children.start("http", [process.execPath, "--no-install", join(scripts, "bare.js")], { folder, env });
  await until("the bare server", () => listens(port), { children, ...START });
  return running(port, children);
}

async function startRedis(folder: string, children: Children, durable: boolean): Promise<number> {
  const port = freePort();
  const place = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder, "--loglevel", "warning"];
  const keep = ["--save", "", "--appendonly", durable ? "yes" : "no", "--appendfsync", "always"];
  children.start("redis", ["redis-server", ...place, ...keep], { folder, env: {} });
  await until("Redis", () => listens(port), { children, ...START });
  return port;
}

async function startRabbitmq(folder: string, children: Children): Promise<number> {
  const [port, distPort, mapperPort] = [freePort(), freePort(), freePort()];
  const env = {
    HOME: folder, // its cookie
    RABBITMQ_NODENAME: "bench@localhost",
    RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
    RABBITMQ_NODE_PORT: `${port}`,
    RABBITMQ_DIST_PORT: `${distPort}`,
    RABBITMQ_MNESIA_BASE: join(folder, "mnesia"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "plugins"),
    RABBITMQ_PID_FILE: join(folder, "pid"),
    ERL_EPMD_PORT: `${mapperPort}`,
    ERL_EPMD_ADDRESS: "127.0.0.1",
  };
  const mapper = ["epmd", "-port", `${mapperPort}`, "-address", "127.0.0.1"];
  children.start("epmd", mapper, { folder, env });
  await until("epmd", () => listens(mapperPort), { children, ...START });
  children.start("rabbitmq", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], { folder, env });
  await until("RabbitMQ", () => listens(port), { children, ...START });
  await settle(children, 1_000);
  return port;
}

/** Lets processes that cannot be asked finish starting. */
async function settle(children: Children, ms: number): Promise<void> {
  await Bun.sleep(ms);
  children.check();
}

function running(port: number, children: Children): Running {
  const processes: NamedProcesses = Object.fromEntries(
    children.list.filter(({ name }) => name !== "epmd").map(({ name, pid }) => [name, pid]),
  );
  return { base: `http://127.0.0.1:${port}`, key: "", model: "echo", processes, readyMs: null };
}

/** Lets a script of this repository find packages of the npm folder outside it. Throws when `needed` is not there. */
function npmEnv(needed: string): { NODE_PATH: string } {
  const modules = join(benchHome(), "npm", "node_modules");
  if (!existsSync(join(modules, needed))) throw new Error(`${needed} is not in ${modules}: see bench/README.md`);
  return { NODE_PATH: modules };
}
