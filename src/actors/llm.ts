// The language models of an actor: what its file says, what the servers that it reaches offer, the server that it has
// started itself, and the live calls that it answers for gateways. actor.ts opens it and announces the offers. Secrets of
// providers stay in this process.
import { join } from "node:path";
import { openBus } from "../bus/connection.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { startLiveServer } from "../live/server.ts";
import { createLocalCaller } from "../llm/local-caller.ts";
import type { FetchMedia } from "../llm/media.ts";
import { meter } from "../llm/metered.ts";
import { createLlmMetrics } from "../llm/metrics.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics/metrics.ts";
import { startDiscovery } from "../models/discovery.ts";
import { type LlmCatalogue, openLlmModels } from "../models/llm-catalogue.ts";
import { exposeModelHealth } from "../models/metrics.ts";
import type { LlmOffers } from "../models/offers.ts";
import { fetchInput } from "../net/fetch-input.ts";
import { openRemoteLedger } from "../usage/remote-ledger.ts";
import { keepModelServer, type ModelServer } from "./model-server.ts";
import { type OpenLlm, openRunnerLlm } from "./runner-llm.ts";

export interface ActorLlm extends Omit<LlmCatalogue, "stop"> {
  /** Calls back now, and whenever they change. */
  onOffers(listener: (offers: LlmOffers) => void): void;
  /** OpenAI's client for one attempt of the actor's own runners. */
  readonly openClient: OpenLlm;
  /** Takes no new live call; resolves when those under way have ended, or after `graceMs`. */
  drain(graceMs: number): Promise<void>;
  stop(): Promise<void>;
}

export async function openActorLlm(
  config: Config,
  actor: { readonly id: string; readonly gpu: string },
  metrics: Metrics,
  log: Log,
): Promise<ActorLlm> {
  let tell: (offers: LlmOffers) => void = () => {};
  const models = await openLlmModels({
    config: config.llm,
    variables: process.env,
    actors: () => [{ id: actor.id, llm: discovery.offers() }],
    serverPort: () => server?.port() ?? null,
    onReload: () => discovery.restart(),
    clock: systemClock,
    log,
  });
  exposeModelHealth(metrics, models.targets);
  const server = startOwnServer(config, actor.gpu, () => discovery.restart(), log);
  const discovery = startDiscovery({
    providers: models.providers,
    access: (provider) => models.provider(provider, actor.gpu),
    defaultModel: config.llm.model,
    onChange: (offers) => tell(offers),
    log,
  });
  const { id: actorId, gpu } = actor;
  const shared = { provider: models.provider, actorId, gpu, clock: systemClock, log };
  const tokens = await openBus(config.natsUrl ?? "", `millrace actor ${gpu} tokens`, log);
  const leftPath = join(config.dataDir, "run", `usage-${gpu}.jsonl`);
  const ledger = openRemoteLedger({ bus: tokens, leftPath, clock: systemClock, log });
  const live = startLiveServer({ ...shared, bus: tokens });
  const observer = createLlmMetrics(metrics);
  const caller = meter(createLocalCaller({ ...shared, models, observer }), ledger, { models, observer });
  const fetchMedia: FetchMedia = (url, sizeBytesMax, signal) =>
    fetchInput(url, { allowHosts: config.fetchAllowHosts, sizeBytesMax, signal });
  return {
    ...models,
    openClient: openRunnerLlm(caller, models, fetchMedia),
    drain: (graceMs) => live.stop(graceMs),
    onOffers(listener) {
      tell = listener;
      listener(discovery.offers());
    },
    async stop() {
      await live.stop(0);
      await ledger.stop();
      await tokens.close();
      discovery.stop();
      models.stop();
      await server?.stop();
    },
  };
}

/** Null without VLLM_COMMAND. */
function startOwnServer(config: Config, gpu: string, onChange: () => void, log: Log): ModelServer | null {
  const { command } = config.llm;
  if (command === null) return null;
  return keepModelServer({ command, gpu, env: process.env, onChange, clock: systemClock, random: Math.random, log });
}
