// The language models of an actor: what its file says, and what the servers that it reaches offer. actor.ts opens it and
// announces the offers; runners and live calls plan with it. Secrets of providers stay in this process.
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import { startDiscovery } from "../models/discovery.ts";
import { type LlmCatalogue, openLlmModels } from "../models/llm-catalogue.ts";
import type { LlmOffers } from "../models/offers.ts";

export interface ActorLlm extends LlmCatalogue {
  /** Calls back now, and whenever they change. */
  onOffers(listener: (offers: LlmOffers) => void): void;
}

export async function openActorLlm(
  config: Config,
  actor: { readonly id: string; readonly gpu: string },
  log: Log,
): Promise<ActorLlm> {
  let tell: (offers: LlmOffers) => void = () => {};
  const models = await openLlmModels({
    config: config.llm,
    variables: process.env,
    actors: () => [{ id: actor.id, llm: discovery.offers() }],
    onReload: () => discovery.restart(),
    clock: systemClock,
    log,
  });
  const discovery = startDiscovery({
    providers: models.providers,
    access: (provider) => models.provider(provider, actor.gpu),
    defaultModel: config.llm.model,
    onChange: (offers) => tell(offers),
    log,
  });
  return {
    ...models,
    onOffers(listener) {
      tell = listener;
      listener(discovery.offers());
    },
    stop() {
      discovery.stop();
      models.stop();
    },
  };
}
