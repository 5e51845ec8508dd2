// What a request for an answer says in chat and completion alike: the fields that decide how much is said and how, and
// how an answer that an earlier attempt began is counted. Pure; generate.ts and the two runners import it.
import { t } from "millrace";

/** Answers take minutes where the server is busy. */
export const TIMEOUT_MS = 600_000;
/** A server that fails is asked again for one to two minutes; one that is full or away is waited for, uncounted. */
export const MAX_ATTEMPTS = 8;

/** Fields that have a meaning here, or that would ask for more than one answer. */
const reserved = ["model", "messages", "prompt", "stream", "stream_options", "n", "best_of", "echo", "vllm"];

export const generationFields = {
  model: t.Optional(
    t.String({
      minLength: 1,
      maxLength: 256,
      description: "Language model, as in models.yaml. Default: the default model of the endpoint.",
    }),
  ),
  max_tokens: t.Optional(t.Integer({ minimum: 1, maximum: 1_000_000, description: "Tokens to make at most." })),
  temperature: t.Optional(t.Number({ minimum: 0, maximum: 2, description: "0 takes the likeliest token each time." })),
  top_p: t.Optional(t.Number({ minimum: 0, maximum: 1 })),
  frequency_penalty: t.Optional(t.Number({ minimum: -2, maximum: 2 })),
  presence_penalty: t.Optional(t.Number({ minimum: -2, maximum: 2 })),
  seed: t.Optional(
    t.Integer({ description: "The same seed and request are answered alike, as far as the server can." }),
  ),
  stop: t.Optional(
    t.Union([t.String({ minLength: 1 }), t.Array(t.String({ minLength: 1 }), { maxItems: 16 })], {
      description: "A text, or a list of them, that ends the answer.",
    }),
  ),
  extra: t.Optional(
    t.Record(t.String(), t.Unknown(), {
      description: "Further fields of the request, as the model's server knows them: `top_k`, `structured_outputs`, …",
      propertyNames: { not: { enum: reserved } },
    }),
  ),
};

export const usageSchema = t.Object(
  {
    prompt_tokens: t.Integer({ minimum: 0 }),
    completion_tokens: t.Integer({ minimum: 0 }),
    total_tokens: t.Integer({ minimum: 0 }),
  },
  { description: "Tokens; of an answer that was continued those of all its attempts." },
);

export type Usage = (typeof usageSchema)["static"];

/** Fields of `extra` under which an answer may be continued: they choose tokens and give the answer no form. */
const continuable: ReadonlySet<string> = new Set([
  "top_k",
  "min_p",
  "repetition_penalty",
  "length_penalty",
  "logit_bias",
  "stop_token_ids",
  "ignore_eos",
  "bad_words",
  "skip_special_tokens",
  "cache_salt",
  "prompt_cache_key",
  "user",
  "vllm_xargs",
]);

interface Limited {
  readonly max_tokens?: number;
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** Whether more of the answer may be asked for after `tokens` of it. */
export const mayContinue = ({ max_tokens: most, extra }: Limited, tokens: number): boolean =>
  tokens > 0 &&
  tokens < (most ?? Number.POSITIVE_INFINITY) &&
  Object.keys(extra ?? {}).every((name) => continuable.has(name));

/** What is left to be made after `tokens`. */
export const tokensLeft = ({ max_tokens: most }: Limited, tokens: number): { readonly max_tokens?: number } =>
  most === undefined ? {} : { max_tokens: most - tokens };

/** As if one call had made it: the prompt of the last one held the `tokens` that were there already. */
export function usageWith(usage: Omit<Usage, "total_tokens">, tokens: number): Usage {
  const prompt_tokens = Math.max(0, countOf(usage.prompt_tokens) - tokens);
  const completion_tokens = countOf(usage.completion_tokens) + tokens;
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}

/** A server may say anything. */
const countOf = (value: unknown): number => (Number.isSafeInteger(value) && Number(value) > 0 ? Number(value) : 0);

/** Counts the tokens of a stream's chunks: as the server says where it says so in each, else one a chunk. */
export function tokenCounter(): (usage: { readonly completion_tokens: number } | null | undefined) => number {
  let counted = 0;
  return (usage) => {
    const added = usage ? Math.max(0, countOf(usage.completion_tokens) - counted) : 1;
    counted += added;
    return added;
  };
}

/** Escaped as JSON it is below the limit of one delta. */
const PIECE_CHARS_MAX = 5_000;

/** The text in pieces that may be emitted: a server may send its whole answer in one chunk. Nothing for no text. */
export const piecesOf = (text: unknown): readonly string[] =>
  typeof text !== "string" || text === ""
    ? []
    : Array.from({ length: Math.ceil(text.length / PIECE_CHARS_MAX) }, (_, i) =>
        text.slice(i * PIECE_CHARS_MAX, (i + 1) * PIECE_CHARS_MAX),
      );
