// `/v1/embeddings`: vectors of texts or of the ids of their tokens, one for each input and in their order. How near they
// are is embed.ts's business.
import { requestIdOf } from "./chat.ts";
import { EMBEDDING_DIMENSIONS_MAX, embed } from "./embed.ts";
import { leftResponse, workInEngine } from "./engine-work.ts";
import { jsonResponse } from "./json-response.ts";
import type { Exchange, Route, Simulation } from "./routes.ts";
import { readInteger } from "./sampling.ts";
import { servedModel } from "./served-models.ts";
import { detokenize, tokenize } from "./tokenizer.ts";
import { WireError } from "./wire-error.ts";

export const embeddingRoutes: readonly Route[] = [
  { method: "POST", path: "/v1/embeddings", body: "json", handle: answerEmbeddings },
];

/** Of the smaller models in use. */
const DIMENSIONS_DEFAULT = 384;
/** OpenAI's. */
const INPUTS_MAX = 2048;

async function answerEmbeddings(exchange: Exchange, simulation: Simulation): Promise<Response> {
  const { body } = exchange;
  const model = servedModel(body, simulation.models);
  const texts = readInputs(body.input);
  const dimensions = readInteger(body, "dimensions", 1, EMBEDDING_DIMENSIONS_MAX) ?? DIMENSIONS_DEFAULT;
  const format = body.encoding_format ?? "float";
  if (format !== "float" && format !== "base64") {
    throw new WireError(400, "encoding_format must be float or base64", "encoding_format");
  }
  const works = texts.map((text) => ({ prompt: tokenize(text), steps: 1 }));
  if (!(await workInEngine(works, model, simulation, exchange))) return leftResponse();
  const data = texts.map((text, index) => {
    const vector = embed(text, dimensions);
    return { index, object: "embedding", embedding: format === "float" ? Array.from(vector) : base64Of(vector) };
  });
  const tokens = works.reduce((sum, { prompt }) => sum + prompt.length, 0);
  return jsonResponse({
    id: `embd-${requestIdOf(exchange)}`,
    object: "list",
    created: Math.floor(Date.now() / 1_000),
    model,
    data,
    usage: { prompt_tokens: tokens, total_tokens: tokens, completion_tokens: 0, prompt_tokens_details: null },
    system_fingerprint: simulation.fingerprint,
  });
}

/** Little-endian float32, as OpenAI's SDKs ask for by default. */
function base64Of(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  for (const [index, value] of vector.entries()) bytes.writeFloatLE(value, index * 4);
  return bytes.toString("base64");
}

/** A text, texts, the ids of one text's tokens, or lists of ids. */
function readInputs(input: unknown): readonly string[] {
  if (typeof input === "string") return [input];
  if (!Array.isArray(input) || input.length === 0) {
    throw new WireError(400, "input must be a text or a list that is not empty", "input");
  }
  if (input.every(isId)) return [detokenize(input)];
  if (input.length > INPUTS_MAX) throw new WireError(400, `input has at most ${INPUTS_MAX} items`, "input");
  return input.map((item: unknown) => {
    if (typeof item === "string") return item;
    if (Array.isArray(item) && item.length > 0 && item.every(isId)) return detokenize(item);
    throw new WireError(400, "input must be texts, or lists of token ids", "input");
  });
}

const isId = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
