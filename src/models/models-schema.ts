// What models.yaml may hold, as a schema: its shape and its limits. models-file.ts checks the file with it, and what a
// schema cannot say. Data only.
import { type Static, Type } from "@sinclair/typebox";
import { llmPurposes, modelStages } from "./llm-models.ts";

/** Names of models, as clients write them and as servers offer them. */
export const modelIdPattern = "^[A-Za-z0-9._:/-]{1,256}$";
const providerPattern = "^[a-z0-9][a-z0-9-]{0,63}$";

const milliseconds = Type.Integer({ minimum: 1, maximum: 3_600_000 });
const closed = { additionalProperties: false };

const providerSchema = Type.Object(
  {
    kind: Type.Optional(Type.Union([Type.Literal("vllm"), Type.Literal("openai")])),
    base_url: Type.String({ maxLength: 2_000 }),
    api_key: Type.Optional(Type.String({ pattern: "^[\\x21-\\x7e]{0,4096}$" })),
    headers: Type.Optional(
      Type.Record(
        Type.String({ pattern: "^[A-Za-z0-9-]{1,64}$" }),
        Type.String({ pattern: "^[\\x20-\\x7e]{0,4096}$" }),
        closed,
      ),
    ),
    discover: Type.Optional(Type.Boolean()),
    timeouts: Type.Optional(
      Type.Object(
        {
          connect_ms: Type.Optional(milliseconds),
          first_token_ms: Type.Optional(milliseconds),
          between_tokens_ms: Type.Optional(milliseconds),
          total_ms: Type.Optional(milliseconds),
        },
        closed,
      ),
    ),
  },
  closed,
);

const purpose = Type.Union(llmPurposes.map((name) => Type.Literal(name)));
const modelId = Type.String({ pattern: modelIdPattern });

const modelSchema = Type.Object(
  {
    aliases: Type.Optional(Type.Array(modelId, { maxItems: 32 })),
    version: Type.Optional(Type.String({ maxLength: 64 })),
    stage: Type.Optional(Type.Union(modelStages.map((stage) => Type.Literal(stage)))),
    variants: Type.Array(
      Type.Object(
        {
          name: Type.Optional(Type.String({ pattern: "^[A-Za-z0-9._-]{1,64}$" })),
          provider: Type.String(),
          model: Type.String({ minLength: 1, maxLength: 256 }),
          weight: Type.Optional(Type.Number({ minimum: 0, maximum: 1_000_000 })),
        },
        closed,
      ),
      { minItems: 1, maxItems: 16 },
    ),
    fallbacks: Type.Optional(Type.Array(modelId, { maxItems: 8 })),
    in_flight_max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
    endpoints: Type.Optional(Type.Array(purpose, { minItems: 1 })),
  },
  closed,
);

export const fileSchema = Type.Object(
  {
    providers: Type.Record(Type.String({ pattern: providerPattern }), providerSchema, closed),
    models: Type.Optional(Type.Record(Type.String({ pattern: modelIdPattern }), modelSchema, closed)),
    defaults: Type.Optional(Type.Partial(Type.Record(purpose, Type.Union([modelId, Type.Literal("")])), closed)),
  },
  closed,
);

export type RawFile = Static<typeof fileSchema>;
export type RawProvider = Static<typeof providerSchema>;
export type RawModel = Static<typeof modelSchema>;
