// What the tests of live calls stand on: a broker, actors' live servers and a gateway's caller on connections of their
// own, model servers that the test gives, and plans that name them. For tests alone.

import { openBus } from "../src/bus/connection.ts";
import { systemClock } from "../src/clock.ts";
import { AppError } from "../src/errors.ts";
import { type LiveCaller, openLiveCaller } from "../src/live/caller.ts";
import { type LiveServer, type LiveServerOptions, startLiveServer } from "../src/live/server.ts";
import type { LlmRequest } from "../src/llm/llm.ts";
import { silentLog } from "../src/log.ts";
import type { ActorEntry } from "../src/models/announce.ts";
import type { ProviderAccess } from "../src/models/llm-catalogue.ts";
import type { LlmModel, LlmModels, Target, TryNews } from "../src/models/llm-models.ts";
import type { ProviderTimeouts } from "../src/models/models-file.ts";
import type { LlmOffers } from "../src/models/offers.ts";
import { type Broker, startBroker } from "./broker.ts";

const timeLimits: ProviderTimeouts = {
  connectMs: 2_000,
  firstTokenMs: 10_000,
  betweenTokensMs: 10_000,
  totalMs: 20_000,
};
const offers: LlmOffers = { p: { models: null, ready: true, kind: "vllm", perGpu: false } };

export interface LiveFixture {
  readonly broker: Broker;
  readonly caller: LiveCaller;
  readonly models: PlannedModels;
  readonly actors: ActorEntry[];
  /** Starts an actor's live server that finds its model server at `baseUrl`. */
  actor(id: string, baseUrl: string, options?: ActorOptions): Promise<LiveServer>;
  /** A further gateway, on a connection of its own; `vanish` cuts it as a death would. */
  gateway(options?: { readonly silenceMs: number }): Promise<{ readonly caller: LiveCaller; vanish(): Promise<void> }>;
  /** As at the start: no actors, one target. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}

type ActorOptions = Pick<Partial<LiveServerOptions>, "callsMax" | "beatMs"> & {
  readonly timeouts?: Partial<ProviderTimeouts>;
  readonly apiKey?: string | null;
};

/** What an actor that serves live calls says of itself. */
export const entryOf = (id: string): ActorEntry => ({
  v: 1,
  id,
  gpu: "0",
  pid: 1,
  models: [],
  startedAtMs: 0,
  llm: offers,
});

export interface PlannedModels extends LlmModels {
  targets: Target[];
  inFlightMax: number | null;
  /** Answers that had begun. */
  begun: number;
  readonly reports: { readonly actorId: string; readonly variant: string; readonly outcome: TryNews }[];
}

export const target = (over: Partial<Target> = {}): Target => ({
  model: "m",
  variant: "v",
  provider: "p",
  kind: "vllm",
  upstreamModel: "millrace-sim",
  perGpu: false,
  ...over,
});

function plannedModels(targets: Target[] = [target()]): PlannedModels {
  const reports: PlannedModels["reports"] = [];
  const blank = { aliases: [], version: null, stage: null, endpoints: null, healthy: true, createdS: 0 };
  const modelOf = (name: string, inFlightMax: number | null): LlmModel | null =>
    name === "m" ? { id: "m", ...blank, inFlightMax } : null;
  return {
    targets,
    inFlightMax: null,
    begun: 0,
    reports,
    list: () => [],
    find(name) {
      return modelOf(name, this.inFlightMax);
    },
    resolve(name) {
      return modelOf(name, this.inFlightMax);
    },
    missing: () => new AppError("unknown_model", "There is no such model."),
    refused: () => false,
    defaultModel: () => "m",
    plan() {
      return this.targets;
    },
    report({ variant }, actorId, news) {
      if (news === "begun") this.begun++;
      else reports.push({ actorId, variant, outcome: news });
    },
    admits: () => true,
  };
}

export function llmRequest(over: Partial<LlmRequest> = {}, value: object = {}): LlmRequest {
  const messages = [{ role: "user", content: "Tell me about rivers." }];
  return {
    endpoint: "chat/completions",
    model: "m",
    body: { kind: "json", value: { messages, ...(over.stream !== false && { stream: true }), ...value } },
    stream: true,
    streamUsage: false,
    requestId: "r-1",
    keyId: "k",
    stickyKey: "k",
    affinity: "",
    signal: new AbortController().signal,
    ...over,
  };
}

export async function startLive(): Promise<LiveFixture> {
  const broker = await startBroker({ partitions: 0 });
  const actors: ActorEntry[] = [];
  const models = plannedModels();
  const servers: LiveServer[] = [];
  const shared = { models, liveActors: () => actors, clock: systemClock, log: silentLog };
  const caller = openLiveCaller({ ...shared, bus: await broker.connect() });
  const reset = async (): Promise<void> => {
    for (const { id } of actors.splice(0)) caller.actorGone(id);
    for (const server of servers.splice(0)) await server.stop(0);
    models.targets = [target()];
    models.inFlightMax = null;
    models.reports.length = 0;
    models.begun = 0;
  };
  return {
    broker,
    caller,
    models,
    actors,
    reset,
    async actor(id, baseUrl, { timeouts, apiKey = null, ...options } = {}) {
      const access: ProviderAccess = { baseUrl, apiKey, headers: {}, timeouts: { ...timeLimits, ...timeouts } };
      const bus = await broker.connect();
      const place = { actorId: id, gpu: "0", provider: () => access };
      servers.push(startLiveServer({ ...options, ...place, bus, clock: systemClock, log: silentLog }));
      actors.push(entryOf(id));
      await bus.flush(5_000);
      return servers.at(-1) as LiveServer;
    },
    async gateway(options) {
      const bus = await openBus(broker.url, "test", silentLog);
      return { caller: openLiveCaller({ ...shared, ...options, bus }), vanish: () => bus.close() };
    },
    async stop() {
      await reset();
      caller.stop();
      await broker.stop();
    },
  };
}

/** The text of a streamed answer's first choice. */
export function contentOf(stream: string): string {
  let text = "";
  for (const [, data = ""] of stream.matchAll(/^data: (\{.*)$/gm)) {
    const { choices = [] } = JSON.parse(data) as { choices?: { delta?: { content?: string } }[] };
    text += choices[0]?.delta?.content ?? "";
  }
  return text;
}
