// What the OpenAI-compatible routes check of a body before anybody is asked: lenient where OpenAI and vLLM are (what is
// not known here goes on to the server, it may be its own), strict on what we act upon. Called by llm.ts. Nothing here
// rewrites a request; src/llm/encode.ts does, once the server is known.
import { AppError, invalidField } from "../errors.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** Ids of models are short; slashes and colons stand in many. */
const MODEL_CHARS_MAX = 256;
/** Beyond it the SDKs' streaming helpers refuse an answer. */
const CHOICES_MAX = 128;
/** What OpenAI makes at once. */
const IMAGES_MAX = 10;
/** And shows of a picture before it is done. */
const PARTS_MAX = 3;
/** Inputs of one request for embeddings, as OpenAI has it. */
const INPUTS_MAX = 2_048;
/** Ids of callers, sessions and caches. */
const NAME_CHARS_MAX = 512;

/** The endpoints that take JSON. */
export type JsonEndpoint = Exclude<LlmEndpoint, "audio/transcriptions">;

/** The body of a request for `endpoint`. Throws `invalid_request` with the field that is wrong. */
export function checkedBody(endpoint: JsonEndpoint, value: unknown): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new AppError("invalid_request", "The body must be a JSON object.");
  }
  const body = value as Fields;
  modelOf(body.model);
  optional(body, "stream", (given) => typeof given === "boolean", "must be true or false");
  for (const name of ["user", "prompt_cache_key", "session_id"]) optional(body, name, isName, nameRule);
  checks[endpoint](body);
  return body;
}

/** The name of a model; empty where none is named: the default one. Throws `invalid_request` for what cannot be one. */
export function modelOf(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string" && value.length <= MODEL_CHARS_MAX && /^[^\s\p{Cc}]+$/u.test(value)) return value;
  throw invalidField("/model", `must be the name of a model: 1 to ${MODEL_CHARS_MAX} characters without blanks`);
}

const isName = (value: unknown): boolean => typeof value === "string" && value.length <= NAME_CHARS_MAX;
const nameRule = `must be a string of at most ${NAME_CHARS_MAX} characters`;

/** Null counts as absent, as the SDKs of typed languages send it. */
function optional(body: Fields, name: string, isGood: (value: unknown) => boolean, rule: string): void {
  const value = body[name];
  if (value !== undefined && value !== null && !isGood(value)) throw invalidField(`/${name}`, rule);
}

const isCount =
  (min: number, max: number) =>
  (value: unknown): boolean =>
    Number.isInteger(value) && Number(value) >= min && Number(value) <= max;
const isText = (value: unknown): boolean => typeof value === "string" && value !== "";
const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isTokenIds = (value: unknown): boolean =>
  Array.isArray(value) && value.length > 0 && value.every((id) => Number.isSafeInteger(id) && id >= 0);
const isList = (value: unknown, isItem: (item: unknown) => boolean): boolean =>
  Array.isArray(value) && value.length > 0 && value.every(isItem);

/** A text, texts, a list of token ids, or lists of them. */
const isPrompt = (value: unknown): boolean =>
  isText(value) || isList(value, isText) || isTokenIds(value) || isList(value, isTokenIds);
const promptRule = "must be a text, a list of texts, a list of token ids, or a list of such lists, none of them empty";

const checks: Readonly<Record<JsonEndpoint, (body: Fields) => void>> = {
  "chat/completions"(body) {
    checkMessages(body.messages);
    checkGeneration(body);
    optional(body, "tools", (value) => Array.isArray(value) && value.every(isObject), "must be a list of tools");
  },
  completions(body) {
    if (!isPrompt(body.prompt)) throw invalidField("/prompt", promptRule);
    checkGeneration(body);
  },
  embeddings(body) {
    // vLLM embeds conversations too.
    if ((body.messages ?? null) !== null) checkMessages(body.messages);
    else if (!isPrompt(body.input)) throw invalidField("/input", promptRule);
    if (Array.isArray(body.input) && !isTokenIds(body.input) && body.input.length > INPUTS_MAX) {
      throw invalidField("/input", `has more than ${INPUTS_MAX} items`);
    }
    const formats = ["float", "base64"];
    optional(body, "encoding_format", (value) => formats.includes(String(value)), "must be float or base64");
    optional(body, "dimensions", isCount(1, 1_000_000), "must be a positive whole number");
    if (body.stream === true) throw invalidField("/stream", "is not served on this path");
  },
  "images/generations"(body) {
    if (!isText(body.prompt)) throw invalidField("/prompt", "must be a text that is not empty");
    optional(body, "n", isCount(1, IMAGES_MAX), `must be a whole number from 1 to ${IMAGES_MAX}`);
    optional(body, "partial_images", isCount(0, PARTS_MAX), `must be a whole number from 0 to ${PARTS_MAX}`);
  },
  "audio/speech"(body) {
    if (!isText(body.input)) throw invalidField("/input", "must be a text that is not empty");
    const formats = ["audio", "sse"];
    optional(body, "stream_format", (value) => formats.includes(String(value)), "must be audio or sse");
  },
};

function checkMessages(value: unknown): void {
  if (!Array.isArray(value) || value.length === 0) throw invalidField("/messages", "must be a list that is not empty");
  for (const [index, message] of value.entries()) {
    if (!isObject(message) || !isText(message.role)) {
      throw invalidField(`/messages/${index}`, "must be an object with a role");
    }
    const { content } = message;
    const isContent = content === undefined || content === null || typeof content === "string";
    if (
      !isContent &&
      !(Array.isArray(content) && content.every((part) => isObject(part) || typeof part === "string"))
    ) {
      throw invalidField(`/messages/${index}/content`, "must be a text or a list of parts");
    }
  }
}

function checkGeneration(body: Fields): void {
  optional(body, "n", isCount(1, CHOICES_MAX), `must be a whole number from 1 to ${CHOICES_MAX}`);
  for (const name of ["max_tokens", "max_completion_tokens"]) {
    optional(body, name, isCount(0, Number.MAX_SAFE_INTEGER), "must be a whole number from 0");
  }
  optional(body, "stream_options", isObject, "must be an object");
  if (isObject(body.stream_options) && body.stream !== true) {
    throw invalidField("/stream_options", "goes with stream: true alone");
  }
}
