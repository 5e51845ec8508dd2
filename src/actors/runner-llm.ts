// OpenAI's client for the runners of an actor (`ctx.llm`): one for each attempt that asks for it, in the name of the
// task's owner. llm.ts makes it from what the actor knows of model servers. It never tries or routes a call itself.
import { openAiClient } from "../llm/client.ts";
import type { LlmCaller } from "../llm/llm.ts";
import type { FetchMedia } from "../llm/media.ts";
import type { LlmCatalogue } from "../models/llm-catalogue.ts";
import type { RunnerHost } from "../registry/context.ts";

export type OpenLlm = NonNullable<RunnerHost["openLlm"]>;

export function openRunnerLlm(
  caller: LlmCaller,
  models: Pick<LlmCatalogue, "defaultModel">,
  fetchMedia: FetchMedia,
): OpenLlm {
  return ({ task: { id, attempt, ownerId }, signal, onAnswered }) => {
    const identity = { keyId: ownerId, requestId: attempt === 1 ? id : `${id}-a${attempt}` };
    return openAiClient({ caller, models, fetchMedia, identity, signal, onAnswered });
  };
}
