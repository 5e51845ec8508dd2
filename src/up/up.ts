// The supervisor of one machine: starts what is not configured elsewhere (broker, model server), one gateway and one
// actor per GPU, starts again what dies, gives a dead actor's jobs back to the queue at once, and ends all of it in
// order. Called by main.ts. It never runs a plugin's code, and never ends while a process that it started is left.
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { handBack, handBackDead } from "../actors/hand-back.ts";
import { boardPath, readBoard } from "../actors/scoreboard.ts";
import { type Bus, openBus } from "../bus/connection.ts";
import { resolveServerBinary } from "../bus/server.ts";
import { ensureTopology } from "../bus/topology.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { actorIdOf, presenceSubject } from "../models/announce.ts";
import { banner } from "./banner.ts";
import { keepBroker } from "./broker.ts";
import { type Child, type ChildParts, keepAlive } from "./child.ts";
import { endLeftovers, processRecords } from "./leftovers.ts";
import { lockDataDir } from "./lock.ts";
import { exposeUpMetrics } from "./metrics.ts";
import { listenForSignals } from "./signals.ts";
import { keepSimulator } from "./simulator.ts";

/** A gateway closes its sockets, and streams to clients resume elsewhere. */
const GATEWAY_GRACE_MS = 10_000;
/** What an actor has not finished by then it hands back; work that is longer is begun anew by another. */
const ACTOR_GRACE_MS = 25_000;
/**
 * For the collectors of gateway and actors. The memory that they believe in: they collect earlier, and 20,000 tasks
 * leave a gateway smaller (docs/benchmarks.md). No limit: a runner's heap may grow beyond it, and pictures and models
 * are not in that heap. A gateway holds more that lives, and with less room collecting took a third of its time. One
 * thread marks: several, in processes that share their cores, cost a fifth more CPU and save nothing.
 */
const collector = (heapMiB: number) => ({
  BUN_JSC_forceRAMSize: String(heapMiB * 1024 * 1024),
  BUN_JSC_numberOfGCMarkers: "1",
});
const ACTOR_HEAP_MIB = 128;
const GATEWAY_HEAP_MIB = 256;

/** Requests of an actor to model servers at once; Bun's own limit is 256, and what is beyond it waits unseen. */
const ACTOR_REQUESTS_MAX = "4096";

/** Resolves when SIGTERM or SIGINT has ended everything in order. Throws AppErrors of the start; then nothing is left. */
export async function runUp(config: Config, log: Log): Promise<void> {
  await using signals = listenForSignals(systemClock);
  const stopwatch = startStopwatch();
  await using stack = new AsyncDisposableStack(); // ends last what was started first
  const lock = lockDataDir(config.dataDir);
  stack.defer(() => lock.release());
  const records = processRecords(config.dataDir);
  const counts = exposeUpMetrics(config, log);
  stack.defer(() => counts.stop());
  const parts: ChildParts = { log, clock: systemClock, random: Math.random, records, counts };
  await endLeftovers(records, log);

  const simulator = await keepSimulator(config, millrace("sim"), parts);
  stack.defer(() => simulator?.stop(signals.force));
  let natsUrl = config.natsUrl;
  if (natsUrl === null) {
    const { dataDir, natsPort: port, durability } = config;
    const binary = resolveServerBinary(config.natsServerBin);
    const broker = await keepBroker({ binary, dataDir, port, durability }, parts);
    stack.defer(() => broker.stop());
    natsUrl = broker.url;
  }
  stopwatch.lap("broker_ms");
  const bus = await openBus(natsUrl, "millrace-up", log);
  stack.defer(() => bus.close());
  const { partitions } = await ensureTopology(bus, config, log);
  await handBackLeftBoards(bus, records.folder, log);
  stopwatch.lap("topology_ms");

  const simulatorUrl = (await simulator?.url) ?? null;
  const env = {
    ...process.env,
    DATA_DIR: config.dataDir,
    NATS_URL: natsUrl,
    PARTITIONS: String(partitions),
    ...(simulatorUrl !== null && { LLM_BASE_URL: simulatorUrl }),
  };
  const actors = config.gpuIds.map((gpu) => startActor(gpu, env, bus, parts));
  stack.defer(async () => {
    await Promise.all(actors.map((actor) => actor.stop(signals.force)));
  });
  let gatewayPort = String(config.port);
  const gatewayEnv = () => ({ ...env, PORT: gatewayPort, ...collector(GATEWAY_HEAP_MIB) });
  const gateway = keepAlive({ name: "gateway", command: millrace("gateway"), env: gatewayEnv }, parts);
  stack.defer(() => gateway.stop(GATEWAY_GRACE_MS, signals.force));

  const ready = Promise.all([gateway.ready, firstActors(actors, log)]);
  const told = await Promise.race([ready, signals.asked]);
  if (told) {
    const [{ url: gatewayUrl = `http://${config.host}:${config.port}` }, idleGpus] = told;
    gatewayPort = new URL(gatewayUrl).port || gatewayPort; // PORT=0: a restarted gateway is found where it was
    const times = stopwatch.lap("children_ms");
    log.info({ ...times, metrics: counts.url }, "ready");
    process.stdout.write(banner({ config, natsUrl, gatewayUrl, simulatorUrl, idleGpus, readyMs: times.total_ms ?? 0 }));
    await signals.asked;
  }
  log.info({}, "stopping: the gateway, then the actors, then the broker");
}

const millrace = (...args: string[]): string[] => [process.execPath, join(import.meta.dir, "../main.ts"), ...args];

interface Actor {
  readonly gpu: string;
  readonly child: Child;
  stop(force: AbortSignal): Promise<void>;
}

function startActor(
  gpu: string,
  env: Readonly<Record<string, string | undefined>>,
  bus: Bus,
  parts: ChildParts,
): Actor {
  const name = `actor-${gpu}`;
  const board = boardPath(parts.records.folder, gpu);
  const child = keepAlive(
    {
      name,
      command: millrace("actor", "--gpu", gpu),
      env: () => ({
        ...env,
        CUDA_VISIBLE_DEVICES: gpu,
        ...collector(ACTOR_HEAP_MIB),
        BUN_CONFIG_MAX_HTTP_REQUESTS: ACTOR_REQUESTS_MAX,
      }),
      async onDeath(pid) {
        bus.publish(presenceSubject(actorIdOf(gpu, pid)), ""); // gateways need not wait for its lease
        await handBackBoard(bus, board, parts.log);
      },
    },
    parts,
  );
  return {
    gpu,
    child,
    async stop(force) {
      await child.stop(ACTOR_GRACE_MS, force);
      // Empty after a drain. What a killed actor held goes on elsewhere, and the attempt is not held against the task.
      const jobs = readBoard(board);
      await rm(board, { force: true });
      if (jobs.length === 0 || !bus.connected) return;
      parts.log.warn({ process: name, jobs: jobs.length }, "handing back what it did not finish");
      const entries = jobs.map((job) => ({ job, error: null, crashed: false }));
      await handBack(bus, entries, Math.random);
    },
  };
}

/**
 * Resolves when each actor is ready or was given up for now: the GPUs of the latter. One broken GPU must not keep the
 * others from work, so it throws only when no actor starts.
 */
async function firstActors(actors: readonly Actor[], log: Log): Promise<string[]> {
  const outcomes = await Promise.allSettled(actors.map(({ child }) => child.ready));
  const failed = outcomes.flatMap((outcome, index) => {
    const gpu = actors[index]?.gpu ?? "";
    return outcome.status === "rejected" ? [{ gpu, reason: outcome.reason as unknown }] : [];
  });
  if (failed.length === actors.length) throw failed[0]?.reason;
  for (const { gpu, reason } of failed) log.error({ gpu, error: messageOf(reason) }, "an actor does not start");
  return failed.map(({ gpu }) => gpu);
}

/** Boards of actors whose supervisor was killed with them. */
async function handBackLeftBoards(bus: Bus, folder: string, log: Log): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (name.endsWith(".board")) await handBackBoard(bus, join(folder, name), log);
  }
}

/**
 * Gives back what a dead actor held. The board goes first: a job handed back twice would run twice at once, one that
 * is not handed back only waits for its lease to end.
 */
async function handBackBoard(bus: Bus, board: string, log: Log): Promise<void> {
  const jobs = readBoard(board);
  await rm(board, { force: true });
  if (jobs.length === 0) return;
  await handBackDead(bus, jobs, Math.random);
  log.warn({ board, jobs: jobs.length }, "the jobs of a dead actor were handed back");
}

/** Milliseconds per step of the start, and in all since the process began. */
function startStopwatch() {
  const times: Record<string, number> = { process_ms: Math.round(performance.now()) };
  let last = performance.now();
  return {
    lap(name: string): Record<string, number> {
      const now = performance.now();
      times[name] = Math.round(now - last);
      times.total_ms = Math.round(now);
      last = now;
      return times;
    },
  };
}
