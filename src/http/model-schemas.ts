// The schemas of what the API says of models; schemas.ts publishes them. Data only.
import { modelStages } from "../models/llm-models.ts";
import { modelIdPattern } from "../models/models-schema.ts";

const modelSchema = {
  type: "object",
  description: "A model, in OpenAI's shape with what Millrace knows of it.",
  required: ["id", "object", "created", "owned_by", "millrace"],
  properties: {
    id: { type: "string", pattern: modelIdPattern, description: "The name to send as `model`." },
    object: { type: "string", const: "model", description: "Always `model`." },
    created: { type: "integer", description: "When this gateway first saw the model, in seconds since 1970." },
    owned_by: { type: "string", description: "Always `millrace`." },
    millrace: {
      type: "object",
      description: "What OpenAI's shape has no place for.",
      required: ["kind", "stage", "healthy"],
      properties: {
        kind: {
          type: "string",
          enum: ["runner", "llm"],
          description: "`runner`: takes tasks (`POST /v1/tasks`). `llm`: a language model, for OpenAI's routes.",
        },
        version: { type: "string", description: "Of a runner major.minor.patch; of an llm as the operator names it." },
        stage: {
          type: "string",
          enum: ["ready", ...modelStages],
          description:
            "How far the operator trusts it; `ready` where nobody has said so. An archived one is not called.",
        },
        summary: { type: "string", description: "Of a runner: what it does, in a sentence." },
        input_schema: { type: "object", description: "Of a runner: JSON Schema of `input`." },
        output_schema: { type: "object", description: "Of a runner: JSON Schema of `result`." },
        example: { description: "Of a runner: an input that it accepts." },
        actors: { type: "integer", minimum: 0, description: "Of a runner: live actors that offer it." },
        aliases: { type: "array", items: { type: "string" }, description: "Of an llm: its other names." },
        endpoints: {
          type: "array",
          items: { type: "string" },
          description: "Of an llm: the paths that it answers; absent where only its server knows.",
        },
        healthy: { type: "boolean", description: "Whether it can work now." },
      },
    },
  },
};

export const modelSchemas = {
  Model: modelSchema,
  ModelList: {
    type: "object",
    description: "The models that are offered.",
    required: ["object", "data"],
    properties: {
      object: { type: "string", const: "list", description: "Always `list`." },
      data: { type: "array", description: "One entry a model.", items: { $ref: "#/components/schemas/Model" } },
    },
  },
};
