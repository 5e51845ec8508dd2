// The fields of a request that decide how much is generated and how it is sent, read and checked as vLLM does. Chat and
// completions share them; what they mean for a given answer is plan.ts's.
import { isRecord } from "./chat-request.ts";
import type { JsonBody } from "./routes.ts";
import { idOf, pieceOf } from "./tokenizer.ts";
import { WireError } from "./wire-error.ts";

export interface Sampling {
  /** Null: as many as fit. */
  readonly maxTokens: number | null;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  readonly stop: readonly string[];
  /** Tokens that end it, by their pieces. */
  readonly stopPieces: ReadonlyMap<string, number>;
  readonly includeStop: boolean;
  /** Words that texts must not have. */
  readonly badWords: readonly string[];
  readonly n: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Usage on every chunk. */
  readonly continuousUsage: boolean;
  /** Lower goes first. */
  readonly priority: number;
  readonly cacheSalt: string;
  /** As text: it goes into the seed of the random numbers. Null: none was given. */
  readonly seed: string | null;
}

/** OpenAI's clients take no index beyond it. */
export const CHOICES_MAX = 128;
/** As OpenAI's; each is looked for at every token. */
const STOPS_MAX = 16;
const STOP_CHARS_MAX = 1_000;
const STOP_TOKENS_MAX = 1_024;
/** Each is looked for everywhere in a text. */
const BAD_WORDS_MAX = 256;
const BAD_WORD_CHARS_MAX = 200;

/** Tokens that a request may have made whatever there is to say: all of its choices are planned before the first. */
const FORCED_TOKENS_MAX = 1_048_576;

/** What has no effect here and is checked all the same, with vLLM's bounds. */
const ranges: Readonly<Record<string, readonly [min: number, max: number]>> = {
  temperature: [0, Number.MAX_VALUE],
  top_p: [Number.MIN_VALUE, 1],
  min_p: [0, 1],
  presence_penalty: [-2, 2],
  frequency_penalty: [-2, 2],
  repetition_penalty: [Number.MIN_VALUE, Number.MAX_VALUE],
};

/** `maxTokensMin`: 0 where a request may want nothing but its prompt. Throws WireError. */
export function readSampling(body: JsonBody, maxTokensFields: readonly string[], maxTokensMin = 1): Sampling {
  for (const [name, [min, max]] of Object.entries(ranges)) {
    const value = body[name] ?? null;
    if (value === null || (typeof value === "number" && value >= min && value <= max)) continue;
    const bounds = `${min === Number.MIN_VALUE ? "above 0" : `at least ${min}`}${max < 3 ? ` and at most ${max}` : ""}`;
    throw new WireError(400, `${name} must be a number ${bounds}.`, name);
  }
  const maxTokens =
    maxTokensFields.map((name) => readInteger(body, name, maxTokensMin)).find((value) => value !== null) ?? null;
  const minTokens = readInteger(body, "min_tokens", 0) ?? 0;
  if (maxTokens !== null && minTokens > maxTokens) {
    throw new WireError(400, `min_tokens must be less than or equal to max_tokens=${maxTokens}, got ${minTokens}.`);
  }
  const options = body.stream_options ?? null;
  const stream = readFlag(body, "stream");
  if (options !== null && !isRecord(options)) throw new WireError(400, "stream_options must be an object");
  if (options !== null && !stream) throw new WireError(400, "Stream options can only be defined when `stream=True`.");
  const includeUsage = options !== null && readFlag(options, "include_usage");
  const salt = body.cache_salt ?? "";
  if (typeof salt !== "string" || (body.cache_salt != null && !/^[^@/\\\0]{1,128}$/.test(salt))) {
    throw new WireError(400, "cache_salt must be 1 to 128 characters, none of @ / \\ NUL", "cache_salt");
  }
  return {
    maxTokens,
    minTokens,
    ignoreEos: readFlag(body, "ignore_eos"),
    stop: readStop(body.stop),
    stopPieces: readStopTokens(body.stop_token_ids),
    badWords: readBadWords(body.bad_words),
    includeStop: readFlag(body, "include_stop_str_in_output"),
    n: readInteger(body, "n", 1, CHOICES_MAX) ?? 1,
    stream,
    includeUsage,
    continuousUsage: includeUsage && options !== null && readFlag(options, "continuous_usage_stats"),
    priority: readInteger(body, "priority", Number.MIN_SAFE_INTEGER) ?? 0,
    cacheSalt: salt,
    seed: readInteger(body, "seed", Number.MIN_SAFE_INTEGER)?.toString() ?? null,
  };
}

/** Null where it is not given. Throws WireError. */
export function readInteger(body: JsonBody, name: string, min: number, max = Number.MAX_SAFE_INTEGER): number | null {
  const value = body[name] ?? null;
  if (value === null) return null;
  if (typeof value !== "number" || !Number.isSafeInteger(value)) {
    throw new WireError(400, `${name} must be an integer`, name);
  }
  if (value < min) throw new WireError(400, `${name} must be at least ${min}, got ${value}.`, name);
  if (value > max) throw new WireError(400, `${name} must be at most ${max}, got ${value}.`, name);
  return value;
}

/** False where it is not given. Throws WireError. */
export function readFlag(body: JsonBody, name: string): boolean {
  const value = body[name] ?? false;
  if (typeof value !== "boolean") throw new WireError(400, `${name} must be a boolean`, name);
  return value;
}

function readStop(value: unknown): string[] {
  const stops = value == null ? [] : Array.isArray(value) ? value : [value];
  if (stops.length > STOPS_MAX) throw new WireError(400, `stop must have at most ${STOPS_MAX} strings`, "stop");
  return stops.map((stop) => {
    if (typeof stop !== "string" || stop === "" || stop.length > STOP_CHARS_MAX) {
      throw new WireError(400, "stop cannot contain an empty string", "stop");
    }
    return stop;
  });
}

const noPieces: ReadonlyMap<string, number> = new Map();

/** Ids that no piece has end nothing. */
function readStopTokens(value: unknown): ReadonlyMap<string, number> {
  if (value == null) return noPieces;
  const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0;
  if (!Array.isArray(value) || value.length > STOP_TOKENS_MAX || !value.every(isId)) {
    throw new WireError(400, `stop_token_ids must be a list of at most ${STOP_TOKENS_MAX} token ids`, "stop_token_ids");
  }
  return new Map(value.map((id) => [pieceOf(id), id] as const).filter(([piece, id]) => idOf(piece) === id));
}

function readBadWords(value: unknown): readonly string[] {
  if (value == null) return [];
  const isWord = (word: unknown): word is string =>
    typeof word === "string" && word.trim() !== "" && word.length <= BAD_WORD_CHARS_MAX;
  if (Array.isArray(value) && value.length <= BAD_WORDS_MAX && value.every(isWord)) return value;
  throw new WireError(400, `bad_words must be a list of at most ${BAD_WORDS_MAX} words`, "bad_words");
}

/**
 * How many tokens each choice may have behind a prompt of `promptTokens`. Throws WireError, in vLLM's words, where nothing
 * or less than was asked for fits into `maxModelLen`.
 */
export function roomFor(promptTokens: number, maxTokens: number | null, maxModelLen: number): number {
  const left = maxModelLen - promptTokens;
  const context = `This model's maximum context length is ${maxModelLen} tokens.`;
  if (left <= 0) {
    const advice = "Please reduce the length of the input messages.";
    const message = `${context} However, your request has ${promptTokens} input tokens. ${advice}`;
    throw new WireError(400, message, "input_tokens");
  }
  if (maxTokens !== null && maxTokens > left) {
    const asked = `'max_tokens' or 'max_completion_tokens' is too large: ${maxTokens}.`;
    const sum = `Your request has ${promptTokens} input tokens (${maxTokens} > ${maxModelLen} - ${promptTokens}).`;
    throw new WireError(400, `${asked} ${context} ${sum}`, "max_tokens");
  }
  return maxTokens ?? left;
}

/** `room` is of one choice, `choices` are all of the request. Throws WireError 400. */
export function checkForced({ minTokens, ignoreEos }: Sampling, room: number, choices: number): void {
  if (choices * (ignoreEos ? room : Math.min(minTokens, room)) <= FORCED_TOKENS_MAX) return;
  throw new WireError(400, `at most ${FORCED_TOKENS_MAX} tokens of all choices together may be forced`, "n");
}
