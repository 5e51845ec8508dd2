// Where calls go: the models of the file and of the servers, and what calls have shown of their health, put together
// into plans. llm-catalogue.ts makes one for each process. It calls no server and reads no file.
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { createHealth, type Health } from "./health.ts";
import { endpointOf, type LlmEndpoint, type LlmModel, type LlmModels, purposeOf, type Target } from "./llm-models.ts";
import type { ModelConfig, ModelsFile, ProviderConfig, VariantConfig } from "./models-file.ts";
import { type KnownModels, knownModels, type Offering, serves } from "./offers.ts";
import { ranked, withFallbacks } from "./plan.ts";

export interface RoutingOptions {
  /** The file as it is now. */
  readonly file: () => ModelsFile;
  /** Live actors; in an actor itself alone. */
  readonly actors: () => readonly Offering[];
  /** LLM_MODEL. */
  readonly defaultModel: string | null;
  readonly clock: Clock;
  /** Told when a breaker opens or closes. */
  readonly log: Log;
}

/** A target that is known, and how it does. */
export interface TargetHealth {
  readonly target: Target;
  readonly callable: boolean;
  readonly breaker: ReturnType<Health["stateOf"]>;
}

export interface Routing extends LlmModels {
  /** After the file was loaded anew. */
  reloaded(): void;
  /** Every target of every model that is not archived, for metrics. */
  targets(): readonly TargetHealth[];
}

/** Actors say something new every second at most: for so long what they said is not put together again. */
const KNOWN_MS = 100;
/** A server that does not answer is asked again after that, at most (discovery.ts). */
const UNHEARD_RETRY_S = 5;

/** An actor's models and those of the file, put together anew when it may have changed. */
function createKnown({ file, actors, clock }: RoutingOptions, health: Health) {
  let known: KnownModels & { readonly actors: readonly Offering[] } = { ...knownModels(file(), []), actors: [] };
  let atMs = Number.NEGATIVE_INFINITY;
  /** When each was seen first, in seconds since the epoch. */
  const createdS = new Map<string, number>();
  return {
    createdS: (id: string): number => createdS.get(id) ?? 0,
    stale() {
      atMs = Number.NEGATIVE_INFINITY;
    },
    now(): typeof known {
      const nowMs = clock.monotonicMs();
      if (nowMs - atMs < KNOWN_MS) return known;
      atMs = nowMs;
      const live = actors();
      known = { ...knownModels(file(), live), actors: live };
      health.keepActors(new Set(live.map(({ id }) => id)));
      for (const id of createdS.keys()) if (!known.models.has(id)) createdS.delete(id);
      for (const id of known.models.keys()) if (!createdS.has(id)) createdS.set(id, Math.floor(clock.now() / 1_000));
      return known;
    },
  };
}

export function createRouting(options: RoutingOptions): Routing {
  const { file, defaultModel: configured, clock } = options;
  const health = createHealth(clock, options.log);
  const known = createKnown(options, health);

  const targetOf = (model: ModelConfig, variant: VariantConfig): Target => {
    const provider = known.now().providers.get(variant.provider);
    return {
      model: model.id,
      variant: variant.name,
      provider: variant.provider,
      kind: provider?.kind ?? "openai",
      upstreamModel: variant.upstreamModel,
      perGpu: provider?.perGpu ?? false,
    };
  };
  const targetsOf = (model: ModelConfig): Target[] => model.variants.map((variant) => targetOf(model, variant));
  const callable = (target: Target): boolean =>
    known.now().actors.some((actor) => serves(actor, target) && health.admits(target, actor.id));
  const describe = (model: ModelConfig): LlmModel => ({
    id: model.id,
    aliases: model.aliases,
    version: model.version,
    stage: model.stage,
    endpoints: model.endpoints,
    inFlightMax: model.inFlightMax,
    healthy: model.stage !== "archived" && targetsOf(model).some(callable),
    createdS: known.createdS(model.id),
  });
  const defaultModel: LlmModels["defaultModel"] = (purpose) => {
    const { defaults } = file();
    const named = defaults[purpose] ?? (purpose === "vision" ? defaults.chat : undefined) ?? configured;
    // Not the first that is up: an answer by another model than yesterday's is worse than none.
    return named ?? [...known.now().models.values()].find(answers(endpointOf(purpose)))?.id ?? null;
  };
  const answering = (name: string, endpoint: LlmEndpoint): ModelConfig | null => {
    const model = known.now().byName.get(name || (defaultModel(purposeOf(endpoint)) ?? ""));
    return model && answers(endpoint)(model) ? model : null;
  };
  const targetsFor = (model: ModelConfig, endpoint: LlmEndpoint, stickyKey: string): readonly Target[] => {
    const { models } = known.now();
    return withFallbacks(model.id, (id) => models.get(id)?.fallbacks ?? [])
      .flatMap((id) => models.get(id) ?? [])
      .filter(answers(endpoint))
      .flatMap((one) => ranked(one.id, one.variants, stickyKey).map((variant) => targetOf(one, variant)));
  };
  /** No actor is told by its servers which models they have. */
  const tellsNobody = (provider: string): boolean => {
    const { actors } = known.now();
    return actors.length > 0 && actors.every(({ llm }) => llm?.[provider]?.refused);
  };
  const missing: LlmModels["missing"] = (name, endpoint) => {
    const model = name === "" ? undefined : known.now().byName.get(name);
    const isKnown = model !== undefined;
    const unheard = ({ name: provider, discover, baseUrl }: ProviderConfig): boolean =>
      discover && baseUrl !== null && !known.now().actors.some(({ llm }) => llm?.[provider]);
    if (!isKnown && [...file().providers.values()].some(unheard)) {
      return new AppError("model_unavailable", `${absent(name)}: a model server has not said yet which it has.`, {
        retryAfterS: UNHEARD_RETRY_S,
      });
    }
    if (!isKnown && [...file().providers.values()].some(({ name: provider }) => tellsNobody(provider))) {
      return new AppError("upstream_unauthorized", `${absent(name)}, but a model server refuses our key.`);
    }
    const refusal = model?.stage === "archived" ? "is archived" : `does not answer /v1/${endpoint}`;
    const why = isKnown ? `The model ${name} ${refusal}` : absent(name);
    return new AppError(
      "unknown_model",
      `${why}. GET /v1/models lists language models as kind llm; runners take tasks.`,
    );
  };
  return {
    list: () => [...known.now().models.values()].map(describe),
    find(name) {
      const model = known.now().byName.get(name);
      return model ? describe(model) : null;
    },
    resolve(name, endpoint) {
      const model = answering(name, endpoint);
      return model && describe(model);
    },
    plan(name, endpoint, stickyKey) {
      const model = answering(name, endpoint);
      if (!model) throw missing(name, endpoint);
      return targetsFor(model, endpoint, stickyKey).filter(callable);
    },
    refused(name, endpoint) {
      const model = answering(name, endpoint);
      const targets = model ? targetsFor(model, endpoint, "") : [];
      return targets.length > 0 && targets.every((one) => health.refuses(one) || tellsNobody(one.provider));
    },
    missing,
    defaultModel,
    report: health.report,
    admits: health.take,
    reloaded() {
      known.stale();
      health.forgetRefusals();
    },
    targets: () =>
      [...known.now().models.values()]
        .filter(({ stage }) => stage !== "archived")
        .flatMap(targetsOf)
        .map((target) => ({ target, callable: callable(target), breaker: health.stateOf(target) })),
  };
}

const answers =
  (endpoint: LlmEndpoint) =>
  ({ stage, endpoints }: ModelConfig): boolean =>
    stage !== "archived" && (endpoints === null || endpoints.includes(endpoint));

const absent = (name: string): string =>
  name === "" ? "No model is named, and none is the default" : `There is no language model ${name}`;
