// The contract of the language models: what a client may name, and which servers answer for it. The gateway plans with
// it where a call goes, an actor where a runner's call goes; both read the same models.yaml. It never calls a server.
import type { AppError } from "../errors.ts";

/** OpenAI's paths below `/v1` that a model server answers. */
export const llmEndpoints = [
  "chat/completions",
  "completions",
  "embeddings",
  "images/generations",
  "audio/transcriptions",
  "audio/speech",
] as const;
export type LlmEndpoint = (typeof llmEndpoints)[number];

/** What a default model is for: an endpoint each, and pictures in a chat. */
const endpoints = {
  chat: "chat/completions",
  completions: "completions",
  embeddings: "embeddings",
  images: "images/generations",
  transcriptions: "audio/transcriptions",
  speech: "audio/speech",
  vision: "chat/completions",
} as const satisfies Record<string, LlmEndpoint>;
export type LlmPurpose = keyof typeof endpoints;
export const llmPurposes = Object.keys(endpoints) as readonly LlmPurpose[];
export const endpointOf = (purpose: LlmPurpose): LlmEndpoint => endpoints[purpose];
/** `chat`, not `vision`, for a chat. */
export const purposeOf = (endpoint: LlmEndpoint): LlmPurpose =>
  llmPurposes.find((purpose) => endpoints[purpose] === endpoint) ?? "chat";

/** `vllm` takes vLLM's own request fields; `openai` is any other server that speaks OpenAI's protocol. */
export type ProviderKind = "vllm" | "openai";

/** One place that can answer a call: a variant of a model, at a provider. */
export interface Target {
  /** Id in the catalogue, never an alias. */
  readonly model: string;
  /** Unique within the model. */
  readonly variant: string;
  readonly provider: string;
  readonly kind: ProviderKind;
  /** What the provider calls it. */
  readonly upstreamModel: string;
  /** Each actor has a server of its own (`{gpu}` in the URL): another actor is another server, with a health of its own. */
  readonly perGpu: boolean;
}

/** How a try at a target ended, for its health. */
export type TryOutcome =
  /** It answered, or refused the client's request. */
  | "ok"
  /** It could not be reached, broke off, was too slow or answered 5xx. */
  | "failed"
  /** It has no room (429, or 503 of a full server). Never opens a breaker. */
  | "overloaded"
  /** It does not take our key (401, 403). Never repeated at this provider. */
  | "unauthorized";

/**
 * What is told of a try: that it has begun to answer, lest a probe wait for the end of a long answer, and how it ended.
 * `unclear`: it answered with an error of its own, and nobody else could answer the request: that may be at fault.
 */
export type TryNews = "begun" | "unclear" | TryOutcome;

export const modelStages = ["development", "staging", "production", "archived"] as const;
export type ModelStage = (typeof modelStages)[number];

export interface LlmModel {
  readonly id: string;
  readonly aliases: readonly string[];
  readonly version: string | null;
  /** An archived model is listed, and not called. */
  readonly stage: ModelStage | null;
  /** What it answers; null: whatever its servers do. */
  readonly endpoints: readonly LlmEndpoint[] | null;
  /** Calls at once that a gateway lets through; null: no limit of its own. */
  readonly inFlightMax: number | null;
  /** At least one variant may be called now. */
  readonly healthy: boolean;
  /** Seconds since the epoch. */
  readonly createdS: number;
}

export interface LlmModels {
  list(): readonly LlmModel[];
  /** By id or alias. */
  find(name: string): LlmModel | null;
  /** By id or alias; the empty name stands for the default model of the endpoint. */
  resolve(name: string, endpoint: LlmEndpoint): LlmModel | null;
  /**
   * Why `resolve` finds nothing, for the client: `unknown_model`, or `model_unavailable` while a server that has not
   * answered any actor yet may turn out to have it, or `upstream_unauthorized` where one does not tell us what it has.
   */
  missing(name: string, endpoint: LlmEndpoint): AppError;
  /**
   * Where to try, in order: the variant that `stickyKey` falls to, the others of the model, then those of its fallbacks.
   * Targets with an open breaker are left out. Empty where none can be called now; throws as `missing` says.
   */
  plan(name: string, endpoint: LlmEndpoint, stickyKey: string): readonly Target[];
  /** Whether every server of the model and of its fallbacks refuses our key, as far as actors and calls have found. */
  refused(name: string, endpoint: LlmEndpoint): boolean;
  /** The model for a purpose where none is named; null where there is no model for it. */
  defaultModel(purpose: LlmPurpose): string | null;
  /** Of a try that `admits` allowed. `actorId` counts for targets that are perGpu alone. */
  report(target: Target, actorId: string, news: TryNews): void;
  /**
   * Whether the target may be tried now (at this actor, where it is perGpu); asked right before each try, because it
   * takes the probe of a half-open breaker.
   */
  admits(target: Target, actorId: string): boolean;
}
