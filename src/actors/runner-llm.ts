// OpenAI's client for the runners of an actor (`ctx.llm`): one for each attempt that asks for it, in the name of the
// task's owner. llm.ts makes it from what the actor knows of model servers. A task must not end for good because a server
// was not asked yet for its models.
import { AppError, asAppError } from "../errors.ts";
import { openAiClient } from "../llm/client.ts";
import type { LlmCaller } from "../llm/llm.ts";
import type { FetchMedia } from "../llm/media.ts";
import type { LlmCatalogue } from "../models/llm-catalogue.ts";
import type { LlmOffers } from "../models/offers.ts";
import type { RunnerHost } from "../registry/context.ts";

export type OpenLlm = NonNullable<RunnerHost["openLlm"]>;

/** `offers`: what servers have said so far. */
export function openRunnerLlm(
  caller: LlmCaller,
  models: Pick<LlmCatalogue, "providers" | "defaultModel">,
  fetchMedia: FetchMedia,
  offers: () => LlmOffers,
): OpenLlm {
  /** A model that nobody knows may be of a server that has not answered yet. */
  const isWaiting = (): boolean => {
    const known = offers();
    return models.providers().some(({ name, discover }) => discover && !known[name]);
  };
  const patient: LlmCaller = {
    call: (request) =>
      caller.call(request).catch((error: unknown) => {
        if (asAppError(error)?.code !== "unknown_model" || !isWaiting()) throw error;
        throw new AppError("model_unavailable", "Not every model server has said yet which models it has.");
      }),
  };
  return ({ task: { id, attempt, ownerId }, signal }) => {
    const identity = { keyId: ownerId, requestId: attempt === 1 ? id : `${id}-a${attempt}` };
    return openAiClient({ caller: patient, models, fetchMedia, identity, signal });
  };
}
