// What the tests of live calls stand on: a broker, actors' live servers and a gateway's caller on connections of their
// own, model servers that the test gives, and plans that name them. For tests alone.

import { systemClock } from "../src/clock.ts";
import { type LiveCaller, openLiveCaller } from "../src/live/caller.ts";
import { type LiveServer, type LiveServerOptions, startLiveServer } from "../src/live/server.ts";
import type { LlmRequest } from "../src/llm/llm.ts";
import type { LiveObserver } from "../src/llm/observer.ts";
import { silentLog } from "../src/log.ts";
import type { ActorEntry } from "../src/models/announce.ts";
import type { ProviderAccess } from "../src/models/llm-catalogue.ts";
import type { LlmModel, LlmModels, Target, TryOutcome } from "../src/models/llm-models.ts";
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
  /** Starts an actor's live server that finds provider `p` at `baseUrl`. */
  actor(
    id: string,
    baseUrl: string,
    options?: Partial<LiveServerOptions> & { readonly timeouts?: Partial<ProviderTimeouts> },
  ): Promise<LiveServer>;
  stop(): Promise<void>;
}

export interface PlannedModels extends LlmModels {
  targets: Target[];
  readonly reports: { readonly actorId: string; readonly variant: string; readonly outcome: TryOutcome }[];
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

export function plannedModels(targets: Target[] = [target()]): PlannedModels {
  const reports: PlannedModels["reports"] = [];
  const blank = { aliases: [], version: null, stage: null, endpoints: null, inFlightMax: null };
  const model: LlmModel = { id: "m", ...blank, healthy: true, createdS: 0 };
  return {
    targets,
    reports,
    list: () => [model],
    find: (name) => (name === "m" ? model : null),
    resolve: (name) => (name === "m" ? model : null),
    defaultModel: () => "m",
    plan() {
      return this.targets;
    },
    report: ({ variant }, actorId, outcome) => void reports.push({ actorId, variant, outcome }),
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

export async function startLive(observer?: LiveObserver): Promise<LiveFixture> {
  const broker = await startBroker({ partitions: 0 });
  const actors: ActorEntry[] = [];
  const models = plannedModels();
  const servers: LiveServer[] = [];
  const bus = await broker.connect();
  const caller = openLiveCaller({
    bus,
    models,
    liveActors: () => actors,
    clock: systemClock,
    log: silentLog,
    ...(observer && { observer }),
  });
  return {
    broker,
    caller,
    models,
    actors,
    async actor(id, baseUrl, { timeouts, ...options } = {}) {
      const access: ProviderAccess = { baseUrl, apiKey: null, headers: {}, timeouts: { ...timeLimits, ...timeouts } };
      const server = startLiveServer({
        bus: await broker.connect(),
        actorId: id,
        gpu: "0",
        provider: () => access,
        clock: systemClock,
        log: silentLog,
        ...options,
      });
      servers.push(server);
      actors.push({ v: 1, id, gpu: "0", pid: 1, models: [], startedAtMs: 0, llm: offers });
      await broker.bus.flush(5_000);
      return server;
    },
    async stop() {
      caller.stop();
      for (const server of servers) await server.stop(0);
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
