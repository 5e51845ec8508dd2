// One gateway process: HTTP in front, the logs and the read model behind. The composition root of the `gateway` command.
import type { Blobs } from "./blobs/blobs.ts";
import { measuredBlobs } from "./blobs/measured.ts";
import { openBlobs } from "./blobs/open.ts";
import { openBus } from "./bus/connection.ts";
import { ensureTopology } from "./bus/topology.ts";
import { systemClock } from "./clock.ts";
import type { Config } from "./config.ts";
import { openKept, openReadModel } from "./db/db.ts";
import { watchDatabase } from "./db/watch.ts";
import { createFiles } from "./files/files.ts";
import type { PartReadiness } from "./http/health.ts";
import { createHttp } from "./http/http.ts";
import { startSubmitService } from "./http/submit-service.ts";
import { openAccess } from "./keys/access.ts";
import { openLiveCaller } from "./live/caller.ts";
import { meter } from "./llm/metered.ts";
import { createLlmMetrics } from "./llm/metrics.ts";
import { createLog, type Log } from "./log.ts";
import { startMetrics } from "./metrics/process.ts";
import { openCatalogue } from "./models/catalogue.ts";
import { openLlmModels } from "./models/llm-catalogue.ts";
import { exposeModelHealth } from "./models/metrics.ts";
import { urlProblem } from "./net/public-url.ts";
import { createErase } from "./tasks/erase.ts";
import { createFind } from "./tasks/find.ts";
import { openGatewayTasks } from "./tasks/gateway.ts";
import type { HeardResult } from "./tasks/logs.ts";
import { createTaskMetrics, watchQueues } from "./tasks/metrics.ts";
import { projectInThread } from "./tasks/projector.ts";
import { openQueues } from "./tasks/queues.ts";
import { createRetry } from "./tasks/retry.ts";
import { openSchedules } from "./tasks/schedules.ts";
import { sweepStore } from "./tasks/store-sweep.ts";
import { startUpkeep } from "./upkeep.ts";
import { startUsageService } from "./usage/service.ts";
import { openUsageLedger } from "./usage/usage.ts";
import { createCleared } from "./webhooks/cleared.ts";
import { countWebhooks } from "./webhooks/metrics.ts";
import { sendInThread } from "./webhooks/sender.ts";
import { createWebhooks, type Webhooks } from "./webhooks/webhooks.ts";

/** Requests in flight have so long to finish. */
const GRACE_MS = 8_000;
/** How often the webhooks' thread is told which results it need not read. */
const CLEARED_EVERY_MS = 1_000;

/** Runs until SIGTERM or SIGINT; resolves after an orderly end. Throws AppErrors of the start. */
export async function runGateway(config: Config): Promise<void> {
  const log = createLog("gateway", config.logLevel);
  const asked = toldToEnd();
  const gateway = await openGateway(config, log);
  process.send?.({ type: "ready", url: gateway.url });
  log.info({ url: gateway.url, partitions: gateway.partitions }, "gateway is ready");
  await asked;
  log.info({}, "gateway stops");
  await gateway.stop();
}

interface Gateway {
  readonly url: string;
  readonly partitions: number;
  stop(): Promise<void>;
}

/** All that answers: HTTP and the service on NATS, on what openNouns made of openBase. */
async function openGateway(config: Config, log: Log): Promise<Gateway> {
  const base = await openBase(config, log);
  const nouns = await openNouns(config, base, log);
  const { bus, blobs, partitions, catalogue, metrics } = base;
  const http = createHttp({
    ...nouns,
    config,
    models: catalogue,
    llm: meter(base.live, nouns.usage, { models: base.llmModels, observer: base.observer }),
    llmModels: base.llmModels,
    actors: catalogue.liveActors,
    keys: nouns.access.keys,
    limits: nouns.access.limits,
    tickets: nouns.access.tickets,
    blobs,
    readiness: () => readinessOf(base, nouns),
    metrics,
    log,
  });
  const { url } = await http.listen();
  const submitService = startSubmitService({ bus, clock: systemClock, fetch: http.fetch, log });
  return {
    url,
    partitions,
    async stop() {
      await Promise.all([http.stop(GRACE_MS), submitService.stop(GRACE_MS)]);
      await nouns.stop();
      await base.stop();
    },
  };
}

type Base = Awaited<ReturnType<typeof openBase>>;

/** What everything else stands on: the broker, the stores, what actors announce. */
async function openBase(config: Config, log: Log) {
  const { metrics, stop: stopMetrics } = startMetrics(systemClock, log);
  const bus = await openBus(config.natsUrl ?? "", "millrace gateway", log);
  const blobs = measuredBlobs(await openBlobs(config), metrics);
  const formats = { "public-url": (url: string) => urlProblem(url, config.fetchAllowHosts) === null };
  // The catalogue follows buckets that a fresh broker has only when the topology stands.
  const { partitions } = await ensureTopology(bus, config, log);
  const [db, kept, store, catalogue] = await Promise.all([
    openReadModel(config),
    openKept(config),
    watchStore(blobs),
    openCatalogue(bus, formats, systemClock, log),
  ]);
  const database = watchDatabase(config.databaseUrl);
  const llmModels = await openLlmModels({
    config: config.llm,
    variables: process.env,
    actors: catalogue.liveActors,
    clock: systemClock,
    log,
  });
  exposeModelHealth(metrics, llmModels.targets);
  const tokens = await openBus(config.natsUrl ?? "", "millrace gateway tokens", log);
  const { liveActors } = catalogue;
  const observer = createLlmMetrics(metrics);
  const live = openLiveCaller({ bus: tokens, models: llmModels, liveActors, clock: systemClock, log, observer });
  catalogue.onActorGone(live.actorGone);
  return {
    bus,
    live,
    observer,
    blobs,
    partitions,
    sql: db.sql,
    kept: kept.sql,
    store,
    database,
    catalogue,
    llmModels,
    metrics,
    async stop() {
      stopMetrics();
      live.stop();
      await tokens.close();
      llmModels.stop();
      store.stop();
      await database.stop();
      catalogue.stop();
      await Promise.all([db.close(), kept.close()]);
      await bus.close();
    },
  };
}

type Nouns = Awaited<ReturnType<typeof openNouns>>;

/** What the API speaks of. */
async function openNouns(config: Config, base: Base, log: Log) {
  const { bus, blobs, partitions, sql, kept, catalogue } = base;
  const clock = systemClock;
  const webhooks = await openWebhooks(config, base);
  const { tasks, queues } = await openTasks(config, base, webhooks, log);
  const access = await openAccess(config, kept, log);
  const limitOf = (keyId: string): number => access.keys.holder(keyId)?.tokensPerDay ?? config.tokensPerDay;
  const usage = openUsageLedger({ sql: access.usage, limitOf, clock, log });
  const usageService = startUsageService({ bus, usage, log });
  const schedules = openSchedules({
    sql: kept,
    accept: tasks.accept,
    isKey: (keyId) => access.keys.holder(keyId) !== null,
    callbackProblem: webhooks.urlProblem,
    clock,
    log,
  });
  const files = createFiles({ sql: kept, blobs, clock, historyTtlMs: config.historyTtlMs });
  const sweepTasks = (signal: AbortSignal) => sweepStore({ bus, sql, blobs, partitions, clock }, signal);
  const upkeep = startUpkeep([sweepTasks, files.sweep], Math.random, log);
  return {
    tasks,
    find: createFind(sql, tasks),
    erase: createErase({ bus, sql, blobs, partitions, clock, tasks, onErased: webhooks.erase }),
    retry: createRetry({ bus, blobs, partitions, models: catalogue, tasks }),
    queues,
    files,
    schedules,
    webhooks,
    access,
    usage,
    async stop() {
      await upkeep.stop();
      await schedules.stop();
      await webhooks.stop();
      await tasks.stop();
      await usageService.stop();
      await usage.stop();
      await access.stop();
    },
  };
}

async function openTasks(config: Config, base: Base, webhooks: SendingWebhooks, log: Log) {
  const { natsUrl, dataDir, databaseUrl, logLevel, taskTtlMs, historyTtlMs } = config;
  const { bus, blobs, partitions, sql, database, catalogue, metrics } = base;
  const clock = systemClock;
  const projector = await projectInThread({ natsUrl: natsUrl ?? "", dataDir, databaseUrl, partitions, logLevel });
  const queues = openQueues({ bus, partitions, clock, capacity: catalogue.capacity });
  watchQueues(metrics, { bus, models: catalogue, queues });
  const tasks = await openGatewayTasks({
    bus,
    sql,
    sqlReady: database.isReady,
    projector,
    blobs,
    partitions,
    taskTtlMs,
    historyTtlMs,
    clock,
    log,
    liveActors: () => catalogue.liveActors().length,
    callbackProblem: webhooks.urlProblem,
    onHeard: webhooks.heard,
    metrics: createTaskMetrics(metrics),
    caps: { tasksMax: config.queuedTasksMax, bytesMax: config.queuedBytesMax },
    queues,
  });
  return { tasks, queues };
}

interface SendingWebhooks extends Webhooks {
  heard(result: HeardResult): void;
  stop(): Promise<void>;
}

/** What the API says of webhooks, and the thread that sends them; without a secret nothing is sent, and there is none. */
async function openWebhooks(config: Config, { kept: sql, partitions, metrics }: Base): Promise<SendingWebhooks> {
  const { natsUrl, dataDir, databaseUrl, logLevel, webhookSecrets: secrets, webhookRetryMs: retryMs } = config;
  const rules = { allowHosts: config.fetchAllowHosts, httpsOnly: config.env === "prod" };
  // Rows outlast the records that they were made from, lest one be made again.
  const keepMs = Math.max(config.historyTtlMs, config.taskTtlMs + 2 * 3_600_000);
  const place = { natsUrl: natsUrl ?? "", dataDir, databaseUrl, partitions, logLevel };
  const options = { ...place, secrets, retryMs, rules, keepMs };
  const sender = secrets.length > 0 ? await sendInThread(options, countWebhooks(metrics)) : null;
  const webhooks = createWebhooks({ sql, secrets, rules, clock: systemClock, onDue: () => sender?.wake() });
  const cleared = createCleared();
  const tell = (): void => {
    const ranges = cleared.take();
    if (ranges.length > 0) sender?.cleared(ranges);
  };
  const timer = setInterval(tell, CLEARED_EVERY_MS);
  return {
    ...webhooks,
    heard: ({ partition, sequence, record }) => cleared.heard(partition, sequence, record.callback === true),
    async stop() {
      clearInterval(timer);
      await sender?.stop();
    },
  };
}

/** Resolves on SIGTERM or SIGINT. */
function toldToEnd(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
}

const readinessOf = ({ bus, database, store, catalogue }: Base, { access }: Nouns): readonly PartReadiness[] => [
  part("broker", bus.connected, "not connected"),
  part("database", database.isReady(), "does not answer"),
  part("keys", access.isFresh(), "the keys cannot be read"),
  part("store", store.isReady(), "the object store takes no objects"),
  part(
    "models",
    catalogue.list().some((model) => model.healthy),
    "no actor has announced itself yet",
  ),
];

const part = (name: string, ready: boolean, detail: string) => ({ part: name, ready, ...(!ready && { detail }) });

const STORE_ASKED_EVERY_MS = 10_000;

/** Whether the object store answers, asked now and again; resolves after the first answer. */
async function watchStore(blobs: Blobs): Promise<{ isReady(): boolean; stop(): void }> {
  let ready = false;
  const ask = (): Promise<void> =>
    blobs.ready().then(
      () => {
        ready = true;
      },
      () => {
        ready = false; // told to whoever asks for readiness; a task that needs the store gets the reason
      },
    );
  await ask();
  const timer = setInterval(() => void ask(), STORE_ASKED_EVERY_MS);
  return { isReady: () => ready, stop: () => clearInterval(timer) };
}
