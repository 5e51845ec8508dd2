// Log probabilities that nobody has computed: made up from the token and its place, so that they are the same at every
// call and never above 0. Both shapes of OpenAI's, for chat and for completions, and vLLM's of the prompt. Pure.
import type { Plan } from "./plan.ts";
import { hash32 } from "./rng.ts";
import type { JsonBody } from "./routes.ts";
import { readFlag, readInteger } from "./sampling.ts";
import { idOf } from "./tokenizer.ts";
import { WireError } from "./wire-error.ts";

/** As vLLM's --max-logprobs. */
const TOP_LOGPROBS_MAX = 20;
/** Of all choices together: some dozens of bytes each, made while everybody waits. */
const PROMPT_ENTRIES_MAX = 262_144;
/** What the model might have said instead. */
const others = [
  " the",
  " a",
  ",",
  ".",
  " and",
  " to",
  " of",
  " in",
  " is",
  " it",
  " that",
  " for",
  " on",
  " with",
].concat([" as", " are", " this", " be", " at", " or", " not"]);

/** How many alternatives a chat request wants for each token; null: no log probabilities. Throws WireError. */
export function readChatLogprobs(body: JsonBody): number | null {
  const top = readInteger(body, "top_logprobs", 0);
  const wanted = readFlag(body, "logprobs");
  if (top !== null && top > 0 && !wanted) {
    throw new WireError(400, "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs");
  }
  return wanted ? checkTop(top ?? 0, "top_logprobs") : null;
}

/** The same of a completions request. */
export function readTextLogprobs(body: JsonBody): number | null {
  const top = readInteger(body, "logprobs", 0);
  return top === null ? null : checkTop(top, "logprobs");
}

/**
 * How many alternatives `prompt_logprobs` wants for each token of the prompt; where it is not there, `echoed`: what goes
 * with an echo. Null: none at all. Throws WireError, in vLLM's words.
 */
export function readPromptLogprobs(body: JsonBody, echoed: number | null): number | null {
  const name = "prompt_logprobs";
  const top = readInteger(body, name, Number.MIN_SAFE_INTEGER);
  if (top === null) return echoed;
  if (top < -1) throw new WireError(400, "`prompt_logprobs` must be a positive value or -1.", name);
  if (top !== 0 && readFlag(body, "stream")) {
    throw new WireError(400, "`prompt_logprobs` are not available when `stream=True`.", name);
  }
  return checkTop(top === -1 ? Number.POSITIVE_INFINITY : top, name);
}

function checkTop(top: number, param: string): number {
  if (top <= TOP_LOGPROBS_MAX) return top;
  const whose = param === "prompt_logprobs" ? "prompt" : "sample";
  const asked = top === Number.POSITIVE_INFINITY ? "the whole vocabulary" : top;
  const message = `Requested ${whose} logprobs of ${asked}, which is greater than max allowed: ${TOP_LOGPROBS_MAX}`;
  throw new WireError(400, message, param);
}

/** `tokens` are those of all prompts, each as often as it is told. Throws WireError 400. */
export function checkPromptEntries(tokens: number, top: number): void {
  if (tokens * (top + 1) <= PROMPT_ENTRIES_MAX) return;
  const message = `at most ${PROMPT_ENTRIES_MAX} log probabilities of prompts may be asked for`;
  throw new WireError(400, message, "prompt_logprobs");
}

interface Alternative {
  readonly token: string;
  readonly logprob: number;
  /** 1 is the likeliest. */
  readonly rank: number;
}

/** The token that was chosen and `top - 1` others, the likeliest first. */
function alternatives(token: string, index: number, top: number): Alternative[] {
  const chosen = -(hash32(token, index) % 700) / 1_000;
  const rest = others.filter((other) => other !== token).slice(0, Math.max(0, top - 1));
  return [
    { token, logprob: chosen, rank: 1 },
    ...rest.map((other, at) => ({
      token: other,
      logprob: chosen - 1 - (at * 250 + (hash32(other, index) % 200)) / 1_000,
      rank: at + 2,
    })),
  ];
}

/** A token of the prompt, and what the model would have said: in one of four cases something else. Nothing is before the first. */
function promptAlternatives(token: string, index: number, top: number): Alternative[] | null {
  if (index === 0) return null;
  const draw = hash32(token, ~index);
  if (draw % 4 !== 0) return alternatives(token, index, top);
  const best = others[draw % others.length] === token ? "?" : (others[draw % others.length] ?? "?");
  const likelier = top === 0 ? [] : alternatives(best, index, top + 1).filter((other) => other.token !== token);
  const rank = TOP_LOGPROBS_MAX + 1 + (draw % 1_000);
  return [{ token, logprob: -8 - (draw % 6_000) / 1_000, rank }, ...likelier.slice(0, top)];
}

/** `prompt_logprobs` as vLLM has them: by the id of each token, the prompt's own first; null for the first token. */
export const promptLogprobs = (prompt: readonly string[], top: number) =>
  prompt.map((piece, index) => {
    const all = promptAlternatives(piece, index, top);
    if (all === null) return null;
    return Object.fromEntries(
      all.map(({ token, logprob, rank }) => [idOf(token), { logprob, rank, decoded_token: token }]),
    );
  });

const encoder = new TextEncoder();
const entryOf = ({ token, logprob }: Omit<Alternative, "rank">) => ({
  token,
  logprob,
  bytes: [...encoder.encode(token)],
});

/** `logprobs` of a chat choice for its tokens `from` up to, not including, `to`. */
export function chatLogprobs({ pieces }: Plan, from: number, to: number, top: number) {
  const content = spoken(pieces, from, to).map((piece, at) => {
    const all = alternatives(piece, from + at, top);
    const [chosen = { token: piece, logprob: 0 }] = all;
    return { ...entryOf(chosen), top_logprobs: all.slice(0, top).map(entryOf) };
  });
  return { content };
}

/** `logprobs` of a text choice; `offset` is where its token `from` begins in the text. */
export function textLogprobs({ pieces }: Plan, from: number, to: number, top: number, offset: number) {
  const tokens = spoken(pieces, from, to);
  return textEntries(
    tokens,
    tokens.map((piece, at) => alternatives(piece, from + at, top)),
    offset,
  );
}

/** `logprobs` of an echoed prompt: its first token has none. */
export const echoLogprobs = (prompt: readonly string[], top: number) =>
  textEntries(
    prompt,
    prompt.map((piece, index) => promptAlternatives(piece, index, top)),
    0,
  );

export type TextLogprobs = ReturnType<typeof textEntries>;

/** Both after each other. */
export const joinedLogprobs = (one: TextLogprobs, other: TextLogprobs): TextLogprobs => ({
  text_offset: [...one.text_offset, ...other.text_offset],
  token_logprobs: [...one.token_logprobs, ...other.token_logprobs],
  tokens: [...one.tokens, ...other.tokens],
  top_logprobs: [...one.top_logprobs, ...other.top_logprobs],
});

function textEntries(tokens: readonly string[], all: readonly (readonly Alternative[] | null)[], offset: number) {
  let end = offset;
  const starts = tokens.map((piece) => {
    const start = end;
    end += piece.length;
    return start;
  });
  return {
    text_offset: starts,
    token_logprobs: all.map((list) => list?.[0]?.logprob ?? null),
    tokens,
    top_logprobs: all.map((list) => list && Object.fromEntries(list.map(({ token, logprob }) => [token, logprob]))),
  };
}

/** The end of sequence is no token of the text. */
const spoken = (pieces: readonly string[], from: number, to: number): string[] =>
  pieces.slice(from, to).filter((piece) => piece !== "");
