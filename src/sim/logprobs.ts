// Log probabilities that nobody has computed: made up from the token and its place, so that they are the same at every
// call and never above 0. Both shapes of OpenAI's, for chat and for completions. Pure.
import type { Plan } from "./plan.ts";
import { hash32 } from "./rng.ts";
import type { JsonBody } from "./routes.ts";
import { readFlag, readInteger } from "./sampling.ts";
import { WireError } from "./wire-error.ts";

/** As vLLM's --max-logprobs. */
const TOP_LOGPROBS_MAX = 20;
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

function checkTop(top: number, param: string): number {
  if (top <= TOP_LOGPROBS_MAX) return top;
  const message = `Requested sample logprobs of ${top}, which is greater than max allowed: ${TOP_LOGPROBS_MAX}`;
  throw new WireError(400, message, param);
}

interface Alternative {
  readonly token: string;
  readonly logprob: number;
}

/** The token that was chosen and `top - 1` others, the likeliest first. */
function alternatives(token: string, index: number, top: number): Alternative[] {
  const chosen = -(hash32(token, index) % 700) / 1_000;
  const rest = others.filter((other) => other !== token).slice(0, Math.max(0, top - 1));
  return [
    { token, logprob: chosen },
    ...rest.map((other, rank) => ({
      token: other,
      logprob: chosen - 1 - (rank * 250 + (hash32(other, index) % 200)) / 1_000,
    })),
  ];
}

const encoder = new TextEncoder();
const entryOf = ({ token, logprob }: Alternative) => ({ token, logprob, bytes: [...encoder.encode(token)] });

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
  const all = tokens.map((piece, at) => alternatives(piece, from + at, top));
  let end = offset;
  const starts = tokens.map((piece) => {
    const start = end;
    end += piece.length;
    return start;
  });
  return {
    text_offset: starts,
    token_logprobs: all.map(([chosen]) => chosen?.logprob ?? null),
    tokens,
    top_logprobs: all.map((list) => Object.fromEntries(list.map(({ token, logprob }) => [token, logprob]))),
  };
}

/** The end of sequence is no token of the text. */
const spoken = (pieces: readonly string[], from: number, to: number): string[] =>
  pieces.slice(from, to).filter((piece) => piece !== "");
