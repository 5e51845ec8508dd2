// What OpenAPI says about the routes of models.
import { modelIdPattern } from "../models/models-schema.ts";
import { json } from "./operations.ts";
import type { Operation } from "./route.ts";

const exampleModel = {
  id: "echo",
  object: "model",
  created: 1795255200,
  owned_by: "millrace",
  millrace: {
    kind: "runner",
    version: "1.0.0",
    stage: "ready",
    summary: "Answers its input; can wait and fail on request.",
    input_schema: {
      type: "object",
      properties: { text: { type: "string", maxLength: 1_000_000 } },
      additionalProperties: false,
    },
    output_schema: { type: "object", required: ["echo"], properties: { echo: {} }, additionalProperties: false },
    example: { text: "hello" },
    actors: 1,
    healthy: true,
  },
};
const exampleLlm = {
  id: "meta-llama/Llama-3.1-8B-Instruct",
  object: "model",
  created: 1795255200,
  owned_by: "millrace",
  millrace: { kind: "llm", stage: "ready", aliases: [], healthy: true },
};

export const listModels: Operation = {
  id: "listModels",
  tag: "Models",
  summary: "List the models",
  description:
    "What can be sent as `model`: language models, first those of the operator's own naming, then those that the model " +
    "servers offer under theirs; and runners, for tasks, with the schemas of input and output.",
  answers: { "200": json("The models.", "ModelList", { object: "list", data: [exampleLlm, exampleModel] }) },
  errors: [],
};

export const getModel: Operation = {
  id: "getModel",
  tag: "Models",
  summary: "Describe a model",
  description: "One entry of the list, by its name or an alias.",
  parameters: [
    {
      name: "id",
      in: "path",
      description: "Name of the model. Slashes in it may be percent-encoded or not.",
      schema: { type: "string", pattern: modelIdPattern },
      example: "echo",
    },
  ],
  answers: { "200": json("The model.", "Model", exampleModel) },
  errors: ["unknown_model"],
};
