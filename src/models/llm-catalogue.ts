// The language models of one process, opened by the gateway and by each actor: models.yaml and the routing that follows
// from it. Secrets of providers are here and go nowhere but to their servers. It calls no model server.
import type { Clock } from "../clock.ts";
import type { LlmConfig } from "../config.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { LlmModels } from "./llm-models.ts";
import type { ProviderConfig, ProviderTimeouts, Variables } from "./models-file.ts";
import type { Offering } from "./offers.ts";
import { createRouting, type Routing } from "./routing.ts";
import { watchModelsFile } from "./watch-models-file.ts";

/** How to reach a provider's server. Never leaves the process. */
export interface ProviderAccess {
  /** With `/v1` or another path, without a slash at the end. */
  readonly baseUrl: string;
  readonly apiKey: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeouts: ProviderTimeouts;
}

export interface LlmCatalogue extends LlmModels {
  /** Throws `model_unavailable` where it is not configured here, or its server has not been started yet. */
  provider(name: string, gpu: string): ProviderAccess;
  /** Those of the file that have an address. */
  providers(): readonly ProviderConfig[];
  targets: Routing["targets"];
  stop(): void;
}

export interface LlmCatalogueOptions {
  readonly config: LlmConfig;
  /** The environment, for the variables of the file. */
  readonly variables: Variables;
  /** Live actors; in an actor itself alone. */
  readonly actors: () => readonly Offering[];
  /** The port of the model server that this process has started; null while there is none. */
  readonly serverPort?: () => number | null;
  /** After the file was loaded anew. */
  readonly onReload?: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Resolves when the file was read. Throws `invalid_config` where it is missing or not valid. */
export async function openLlmModels(options: LlmCatalogueOptions): Promise<LlmCatalogue> {
  const { config, actors, clock, log } = options;
  const watched = await watchModelsFile({
    path: config.modelsFile,
    variables: { ...options.variables, LLM_BASE_URL: config.baseUrl ?? "", LLM_API_KEY: config.apiKey ?? "" },
    log,
    onChange() {
      routing.reloaded();
      options.onReload?.();
    },
  });
  const routing = createRouting({ file: watched.file, actors, defaultModel: config.model, clock, log });
  return {
    ...routing,
    provider: (name, gpu) => accessOf(watched.file().providers.get(name), gpu, options.serverPort?.() ?? null),
    providers: () => [...watched.file().providers.values()].filter(({ baseUrl }) => baseUrl !== null),
    stop: watched.stop,
  };
}

function accessOf(provider: ProviderConfig | undefined, gpu: string, port: number | null): ProviderAccess {
  const template = provider?.baseUrl ?? null;
  if (!provider || template === null)
    throw new AppError("model_unavailable", "The model's provider is not configured.");
  if (port === null && template.includes("{port}")) {
    throw new AppError("model_unavailable", "The model server is not started yet.", { retryAfterS: 5 });
  }
  const { apiKey, headers, timeouts } = provider;
  const baseUrl = template.replaceAll("{gpu}", gpu).replaceAll("{port}", String(port));
  return { baseUrl, apiKey, headers, timeouts };
}
