// An answer that is no stream: taken in whole before any of it goes on, so that a server that breaks off in the middle
// costs the client nothing. upstream.ts calls it.
import { AppError } from "../errors.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import type { HeldRoom } from "./answer-room.ts";
import { ABORTED } from "./chunk.ts";
import type { Exchange } from "./exchange.ts";
import type { TokenUsage } from "./llm.ts";
import type { ServerResponse } from "./post.ts";
import type { TryAnswer } from "./try.ts";
import { noUsage, usageOf } from "./usage-count.ts";

/** 2,048 embeddings of 3,072 dimensions as text are 80 MB; as base64, which SDKs ask for, 34 MB. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
/** Beyond it the usage is looked for where it stands, near the end. */
const PARSED_BYTES_MAX = 1024 * 1024;
const USAGE_CHARS_MAX = 2_048;
const PIECE_BYTES_MAX = 16 * 1024;
const EMPTY = new Uint8Array();

export async function openWhole(
  response: ServerResponse,
  exchange: Exchange,
  endpoint: LlmEndpoint,
  room: HeldRoom,
): Promise<TryAnswer> {
  try {
    const taken = await takeWhole(response, exchange, endpoint, room);
    return wholeAnswer({ ...taken, status: 200, onGone: () => room.release() });
  } catch (error) {
    room.release();
    throw error;
  }
}

export interface TakenWhole {
  readonly contentType: string;
  readonly isJson: boolean;
  readonly bytes: Uint8Array;
  readonly usage: TokenUsage;
}

/** The bytes stay in `room` until the caller releases it, also where this throws. */
export async function takeWhole(
  response: ServerResponse,
  exchange: Exchange,
  endpoint: LlmEndpoint,
  room: HeldRoom,
): Promise<TakenWhole> {
  const hurry = (): void => exchange.expectWithin(exchange.limits.betweenTokensMs);
  hurry(); // it is made, or as good as made
  const bytes = await readUpTo(response, ANSWER_BYTES_MAX + 1, (size) => {
    hurry();
    room.take(size);
  });
  if (bytes.length > ANSWER_BYTES_MAX) throw new AppError("upstream_failed", "The model server's answer is too large.");
  exchange.done();
  const contentType = response.headers.get("content-type") ?? "";
  const isJson = isJsonType(contentType);
  const sound = endpoint === "audio/speech" || endpoint === "audio/transcriptions";
  if (!isJson && (!sound || /^text\/html\b/i.test(contentType))) throw otherThanAsked();
  return { contentType, isJson, bytes, usage: isJson ? usageIn(bytes, endpoint) : noUsage };
}

export const isJsonType = (contentType: string): boolean => /^application\/([\w.]+\+)?json\b/i.test(contentType);

export const otherThanAsked = (): AppError =>
  new AppError("upstream_failed", "The model server answered something else than asked.", { retryAfterS: 1 });

/** At most `bytesMax` of a body; the rest is not waited for. `onPiece` may refuse more of it by throwing. */
export async function readUpTo(
  response: ServerResponse,
  bytesMax: number,
  onPiece: (size: number) => void = () => {},
): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  const pieces: Uint8Array[] = [];
  let size = 0;
  while (reader && size < bytesMax) {
    const { done, value } = await reader.read();
    if (done) break;
    onPiece(value.length);
    pieces.push(value);
    size += value.length;
  }
  if (size >= bytesMax) await reader?.cancel();
  return Buffer.concat(pieces).subarray(0, bytesMax);
}

export interface WholeOptions {
  readonly status: number;
  readonly contentType: string;
  readonly bytes: Uint8Array;
  readonly usage?: TokenUsage;
  /** It has been read, or nobody wants it any more. May be called twice. */
  readonly onGone?: () => void;
}

export function wholeAnswer({ status, contentType, usage = noUsage, onGone, ...rest }: WholeOptions): TryAnswer {
  let { bytes } = rest;
  let at = 0;
  const drop = (): void => {
    bytes = EMPTY;
    at = 0;
    onGone?.();
  };
  return {
    status,
    contentType,
    async read() {
      if (at >= bytes.length) {
        drop();
        return null;
      }
      const piece = bytes.subarray(at, at + PIECE_BYTES_MAX);
      at += piece.length;
      return piece;
    },
    cancel: drop,
    usage: () => usage,
  };
}

const isAborted = (choice: unknown): boolean =>
  typeof choice === "object" && choice !== null && "finish_reason" in choice && choice.finish_reason === ABORTED;

/**
 * Throws `upstream_failed` for what is no JSON, an error under a good status, an answer of tokens without any, and one that
 * the server gave up.
 */
function usageIn(bytes: Uint8Array, endpoint: LlmEndpoint): TokenUsage {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (text.length <= PARSED_BYTES_MAX) {
    const { usage, error, choices } = objectIn(text.toString());
    const generated = endpoint === "chat/completions" || endpoint === "completions";
    if ((error ?? null) !== null || (generated && !(Array.isArray(choices) && choices.length > 0))) throw unreadable();
    if (generated && (choices as unknown[]).some(isAborted)) {
      throw new AppError("upstream_failed", "The model server gave up its answer.", { retryAfterS: 1 });
    }
    return usageOf(usage) ?? noUsage;
  }
  // A quote within a string is escaped, so this is a key, and the last one of this name is the answer's own.
  const from = text.lastIndexOf('"usage":');
  const near = from < 0 ? "" : text.toString("latin1", from + 8, from + 8 + USAGE_CHARS_MAX);
  const numbers = Object.fromEntries(
    [...near.matchAll(/"(\w+_tokens)"\s*:\s*(\d{1,12})/g)].map(([, name, digits]) => [name, Number(digits)]),
  );
  return usageOf({ ...numbers, prompt_tokens_details: numbers }) ?? noUsage;
}

/** Throws `upstream_failed` for what is no JSON object. */
export function objectIn(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw unreadable(cause);
  }
  if (typeof value !== "object" || value === null) throw unreadable();
  return value as Readonly<Record<string, unknown>>;
}

export const unreadable = (cause?: unknown): AppError =>
  new AppError("upstream_failed", "The model server's answer cannot be read.", { cause, retryAfterS: 1 });
