// The routes of models: OpenAI's list shape, so that its SDKs can read it, with Millrace's own facts under `millrace`.
import { AppError } from "../errors.ts";
import type { ModelDescription, Models } from "../models/models.ts";
import { operations } from "./operations.ts";
import { type KeyedRoute, replyJson } from "./route.ts";

export function modelRoutes(models: Models): readonly KeyedRoute[] {
  return [
    {
      access: "key",
      method: "GET",
      path: "/v1/models",
      operation: operations.listModels,
      handle: (call) => replyJson(call, 200, JSON.stringify({ object: "list", data: models.list().map(publicModel) })),
    },
    {
      access: "key",
      method: "GET",
      path: "/v1/models/{id}",
      operation: operations.getModel,
      handle(call) {
        const model = models.get(call.id);
        if (!model)
          throw new AppError(
            "unknown_model",
            "No actor offers this model. GET /v1/models lists those that are offered.",
          );
        return replyJson(call, 200, JSON.stringify(publicModel(model)));
      },
    },
  ];
}

const publicModel = (model: ModelDescription): object => ({
  id: model.name,
  object: "model",
  created: model.createdS,
  owned_by: "millrace",
  millrace: {
    version: model.version,
    stage: "ready",
    summary: model.summary,
    input_schema: model.inputSchema,
    output_schema: model.outputSchema,
    example: model.example,
    actors: model.actors,
    healthy: model.healthy,
  },
});
