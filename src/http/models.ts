// The routes of models: OpenAI's list shape, so that its SDKs can read it, with Millrace's own facts under `millrace`.
// One list: language models, then runners, because clients of OpenAI's API choose from it, and some take the first. A
// name that is both is the runner's where one entry is asked for. What is behind a model (its servers, their addresses)
// is never told.
import { AppError } from "../errors.ts";
import type { LlmModel, LlmModels } from "../models/llm-models.ts";
import type { ModelDescription, Models } from "../models/models.ts";
import { getModel, listModels } from "./model-operations.ts";
import { type KeyedRoute, replyJson } from "./route.ts";

export function modelRoutes(models: Models, llmModels: Pick<LlmModels, "list" | "find">): readonly KeyedRoute[] {
  const route = { access: "key", method: "GET", errorFormat: "openai" } as const;
  return [
    {
      ...route,
      path: "/v1/models",
      operation: listModels,
      handle(call) {
        const data = [...llmModels.list().map(llmEntry), ...models.list().map(runnerEntry)];
        return replyJson(call, 200, JSON.stringify({ object: "list", data }));
      },
    },
    {
      ...route,
      path: "/v1/models/{id}",
      idIsRest: true,
      operation: getModel,
      handle(call) {
        const id = decoded(call.id);
        const runner = models.get(id);
        const llm = runner ? null : llmModels.find(id);
        if (!runner && !llm) throw new AppError("unknown_model", "No such model. GET /v1/models lists the models.");
        return replyJson(call, 200, JSON.stringify(runner ? runnerEntry(runner) : llm && llmEntry(llm)));
      },
    },
  ];
}

/** Names of models may hold slashes, which SDKs encode and people do not. */
function decoded(id: string): string {
  try {
    return decodeURIComponent(id);
  } catch {
    return id; // no name has a percent sign
  }
}

const entry = (id: string, created: number, millrace: object): object => ({
  id,
  object: "model",
  created,
  owned_by: "millrace",
  millrace,
});

const runnerEntry = (model: ModelDescription): object =>
  entry(model.name, model.createdS, {
    kind: "runner",
    version: model.version,
    stage: "ready",
    summary: model.summary,
    input_schema: model.inputSchema,
    output_schema: model.outputSchema,
    example: model.example,
    actors: model.actors,
    healthy: model.healthy,
  });

const llmEntry = (model: LlmModel): object =>
  entry(model.id, model.createdS, {
    kind: "llm",
    ...(model.version !== null && { version: model.version }),
    stage: model.stage ?? "ready",
    aliases: model.aliases,
    ...(model.endpoints && { endpoints: model.endpoints.map((endpoint) => `/v1/${endpoint}`) }),
    healthy: model.healthy,
  });
