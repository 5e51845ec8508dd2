// One actor process: one GPU, every runner it hosts loaded once, jobs pulled as there is room. The composition root of
// the `actor` command. It ends by SIGTERM (drain), by the loss of its supervisor, or by its beat thread's hand.
import { join } from "node:path";
import { measuredBlobs } from "../blobs/measured.ts";
import { openBlobs } from "../blobs/open.ts";
import { type Bus, openBus } from "../bus/connection.ts";
import { listQueues } from "../bus/queues.ts";
import { type Level, type QueueAddress, subjects } from "../bus/subjects.ts";
import { ensureTopology } from "../bus/topology.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { messageOf } from "../errors.ts";
import { createLog, type Log } from "../log.ts";
import { type ActorEntry, actorIdOf, announceModels, type Presence, presenceOf } from "../models/announce.ts";
import { installModules } from "../registry/specifier.ts";
import type { LoadedRunner } from "../registry/stages.ts";
import type { FromBeat, ToBeat } from "./beat.ts";
import { watchCancels } from "./cancel-watch.ts";
import { loadHostedRunners } from "./host.ts";
import { Jobs } from "./jobs.ts";
import { type ActorLlm, openActorLlm } from "./llm.ts";
import { createActorMetrics, exposeMetrics } from "./metrics.ts";
import { createPuller, type Puller } from "./puller.ts";
import { boardPath, createBoard } from "./scoreboard.ts";

/** How often every queue is looked at, for bells that got lost and leases that have lapsed. */
const LOOK_EVERY_MS = 500;
const DEADLINE_CHECK_MS = 50;
const DRAIN_MS = 25_000;

/** Runs until the process is told to end. Resolves after a clean drain. */
export async function runActor(config: Config, gpu: string): Promise<void> {
  const actor = { id: actorIdOf(gpu, process.pid), gpu };
  const log = createLog("actor", config.logLevel).child({ gpu });
  if (!config.natsUrl) throw new Error("the actor command needs NATS_URL; `up` sets it");
  const asked = toldToEnd();
  installModules({ millrace: () => import("../sdk.ts"), "millrace/testing": () => import("../testing.ts") });
  const bus = await openBus(config.natsUrl, `millrace actor ${gpu}`, log);
  const exposed = exposeMetrics(config, gpu, log);
  const blobs = measuredBlobs(await openBlobs(config), exposed.metrics);
  const llm = await openActorLlm(config, actor, exposed.metrics, log);
  const [{ partitions }, runners] = await Promise.all([
    ensureTopology(bus, config, log),
    loadHostedRunners(config, { gpu, blobs, openLlm: llm.openClient, log }),
  ]);
  const pullers = new Map<string, Puller>();
  const jobs = new Jobs({
    bus,
    board: createBoard(boardPath(join(config.dataDir, "run"), gpu)),
    blobs,
    partitions,
    actor,
    runners,
    clock: systemClock,
    random: Math.random,
    modelWaitMs: config.modelWaitMs,
    log,
    metrics: createActorMetrics(exposed.metrics, [...runners.keys()], () => jobs.size),
    onRoom: (model) => pullers.get(model)?.pump(),
  });
  const cancels = await watchCancels(bus, {
    partitions,
    actorId: actor.id,
    log,
    onCancel: (taskId, sequence) => jobs.cancel(taskId, sequence),
    onAsk: (taskId) => jobs.holds(taskId),
  });
  jobs.useCancels(cancels);
  const descriptions = [...runners.values()].map((runner) => runner.description);
  const presence = presenceOf(actor, descriptions, systemClock.now());
  const beat = await startBeat(config, actor.id, boardPath(join(config.dataDir, "run"), gpu), presence);
  followOffers(llm, beat, jobs);
  await announceModels(bus, descriptions);
  const stopPulling = startPulling(bus, runners, jobs, pullers, partitions, log);
  const deadlines = setInterval(() => jobs.checkDeadlines(), DEADLINE_CHECK_MS);
  process.send?.({ type: "ready" });
  log.info({ actor: actor.id, models: [...runners.keys()], partitions, metrics: exposed.url }, "actor is ready");

  await asked;
  log.info({ held: jobs.size }, "actor drains");
  await Promise.all([stopPulling(), jobs.drain(DRAIN_MS), llm.drain(DRAIN_MS)]);
  clearInterval(deadlines);
  cancels.stop();
  bus.publish(presence.subject, ""); // gone: watchers need not wait for its lease
  await bus.flush(2_000).catch((error) => log.warn({ error: messageOf(error) }, "last acks may be lost"));
  await Promise.allSettled([...runners.values()].map((runner) => runner.unload()));
  await llm.stop();
  await beat.stop();
  await bus.close();
  await exposed.stop();
}

/** Announces what the model servers offer; when one comes up, who waits for it need not wait for its turn. */
function followOffers(llm: ActorLlm, beat: BeatThread, jobs: Jobs): void {
  let ready: ReadonlySet<string> = new Set();
  llm.onOffers((offers) => {
    beat.announce({ llm: offers });
    const before = ready;
    ready = new Set(Object.keys(offers).filter((provider) => offers[provider]?.ready));
    if ([...ready].some((provider) => !before.has(provider))) jobs.wake();
  });
}

/** Resolves on SIGTERM or SIGINT. */
function toldToEnd(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
}

function startPulling(
  bus: Bus,
  runners: ReadonlyMap<string, LoadedRunner>,
  jobs: Jobs,
  pullers: Map<string, Puller>,
  partitions: number,
  log: Log,
): () => Promise<void> {
  const bells = [...runners.keys()].map((model) => {
    const puller = createPuller({
      bus,
      model,
      clock: systemClock,
      room: () => jobs.room(model),
      take: (message, delivery) => jobs.take(message, delivery),
    });
    pullers.set(model, puller);
    return bus.subscribe(subjects.bell(model), (message) => {
      for (const [at, count] of parseBell(message.text(), model)) puller.ring(at, count);
    });
  });
  let looking = false;
  const look = async (): Promise<void> => {
    if (looking || !bus.connected) return;
    looking = true;
    try {
      const found = await Promise.all(Array.from({ length: partitions }, (_, p) => listQueues(bus, p)));
      for (const puller of pullers.values()) puller.learn(found.flat());
    } catch (error) {
      log.debug({ error: messageOf(error) }, "could not look at the queues");
    } finally {
      looking = false;
    }
  };
  void look();
  const timer = setInterval(() => void look(), LOOK_EVERY_MS);
  const stopReconnect = bus.onReconnect(() => {
    for (const puller of pullers.values()) puller.reset();
    void look();
  });
  return async () => {
    clearInterval(timer);
    stopReconnect();
    for (const bell of bells) bell.unsubscribe();
    await Promise.all([...pullers.values()].map((puller) => puller.stop()));
  };
}

/** `[[partition, level, lane, count], …]`; nothing for a text of another form. */
function parseBell(text: string, model: string): [QueueAddress, number][] {
  try {
    const rung = JSON.parse(text) as [number, Level, "a" | "b", number][];
    return rung.map(([partition, level, lane, count]) => [{ partition, level, lane, model }, count]);
  } catch {
    return [];
  }
}

interface BeatThread {
  /** To be said of the actor from now on, and at once. */
  announce(fields: Partial<ActorEntry>): void;
  stop(): Promise<void>;
}

/** Starts the beat thread; resolves when it keeps leases. */
function startBeat(config: Config, actorId: string, path: string, presence: Presence): Promise<BeatThread> {
  const worker = new Worker(new URL("./beat.ts", import.meta.url).href, { smol: true });
  const start: ToBeat = {
    type: "start",
    natsUrl: config.natsUrl ?? "",
    boardPath: path,
    actorId,
    logLevel: config.logLevel,
    presence,
    supervisorPid: process.send ? process.ppid : null,
  };
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(`the beat thread died: ${event.message}`));
    worker.onmessage = (event: MessageEvent<FromBeat>) => {
      if (event.data.type === "failed") return reject(new Error(`the beat thread cannot start: ${event.data.message}`));
      // From here on the process must not live without it: leases would lapse unseen.
      worker.onerror = () => process.exit(1);
      resolve({
        announce: (fields) => worker.postMessage({ type: "presence", fields } satisfies ToBeat),
        async stop() {
          const ended = new Promise<void>((done) => worker.addEventListener("close", () => done()));
          worker.postMessage({ type: "stop" } satisfies ToBeat);
          await Promise.race([ended, Bun.sleep(1_000)]);
          worker.terminate();
        },
      });
    };
    worker.postMessage(start);
  });
}
