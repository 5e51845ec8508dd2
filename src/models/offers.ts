// What actors say of the model servers that they reach, and which targets follow from it. Actors announce it with their
// presence (announce.ts), every gateway reads it: so all of them know the same models, and no gateway asks a server.
import type { ProviderKind, Target } from "./llm-models.ts";
import type { ModelConfig, ModelsFile } from "./models-file.ts";

/** One provider, as one actor sees it. */
export interface LlmOffer {
  /** Names that its server offers, in its order. Null: it was not asked (`discover: false`), and is taken at its word. */
  readonly models: readonly string[] | null;
  /** It answered when it was asked last. */
  readonly ready: boolean;
  readonly kind: ProviderKind;
  readonly perGpu: boolean;
  /** It does not take the actor's key: what it has is not known, or was once. */
  readonly refused?: true;
}

/** By provider; of a server that has not answered yet there is nothing. */
export type LlmOffers = Readonly<Record<string, LlmOffer>>;

/** Whether a value from the wire has this shape. */
export const isOffers = (value: unknown): value is LlmOffers =>
  isRecord(value) &&
  Object.values(value).every(
    (offer) =>
      isRecord(offer) &&
      (offer.models === null || (Array.isArray(offer.models) && offer.models.every((id) => typeof id === "string"))) &&
      typeof offer.ready === "boolean" &&
      (offer.kind === "vllm" || offer.kind === "openai") &&
      typeof offer.perGpu === "boolean",
  );

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** An actor, as far as it concerns model servers. */
export interface Offering {
  readonly id: string;
  readonly llm?: LlmOffers;
}

/** Whether the actor reaches a server that answers for the target, as far as it knows. */
export function serves(actor: Offering, target: Pick<Target, "provider" | "upstreamModel">): boolean {
  const offer = actor.llm?.[target.provider];
  return offer?.ready === true && (offer.models === null || offer.models.includes(target.upstreamModel));
}

/** What the actors know together of one provider. */
export interface KnownProvider {
  readonly kind: ProviderKind | null;
  readonly perGpu: boolean;
}

export interface KnownModels {
  /** Those of the file first, then those that servers offer and the file does not name. */
  readonly models: ReadonlyMap<string, ModelConfig>;
  /** The same by every name: ids and aliases. */
  readonly byName: ReadonlyMap<string, ModelConfig>;
  readonly providers: ReadonlyMap<string, KnownProvider>;
}

/** The models of the file and of all servers: a name that several providers offer is a model with a variant at each. */
export function knownModels(file: ModelsFile, actors: readonly Offering[]): KnownModels {
  const models = new Map(file.models);
  const byName = new Map(
    [...models.values()].flatMap((model) => [model.id, ...model.aliases].map((name) => [name, model])),
  );
  const providers = new Map<string, KnownProvider>();
  const found = new Map<string, string[]>();
  for (const { name, kind, perGpu, discover } of file.providers.values()) {
    const offers = actors.flatMap(({ llm }) => llm?.[name] ?? []);
    providers.set(name, {
      kind: kind ?? offers.find(({ refused }) => !refused)?.kind ?? null,
      perGpu: perGpu || offers.some((offer) => offer.perGpu),
    });
    if (!discover) continue;
    for (const id of new Set(offers.flatMap((offer) => offer.models ?? []))) {
      if (!byName.has(id)) found.set(id, [...(found.get(id) ?? []), name]);
    }
  }
  for (const [id, names] of found) {
    const model = discovered(id, names);
    models.set(id, model);
    byName.set(id, model);
  }
  return { models, byName, providers };
}

const discovered = (id: string, providers: readonly string[]): ModelConfig => ({
  id,
  aliases: [],
  version: null,
  stage: null,
  variants: providers.map((name) => ({ name, provider: name, upstreamModel: id, weight: 1 })),
  fallbacks: [],
  inFlightMax: null,
  endpoints: null,
});
