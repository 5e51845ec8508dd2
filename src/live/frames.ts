// What gateways and actors say to each other in a live call, as bytes: made and checked here, for both ends. Tags are
// words, every message carries its version, and a frame of another form is refused as a whole, never read by halves.
//
// To an actor: one line of JSON, then the bytes that it speaks of.
//   open    a call, with its body or the first part of it
//   part    the next part of the body; answered by `taken`
//   credit  so many more bytes may be sent
//   cancel  nobody wants the answer any more
// To a gateway: "1\n", then frames of any of its calls: `<tag> <call> <number> <tokens> <size>\n` and `size` bytes.
//   taken   the parts so far have arrived
//   head    the answer has begun (JSON)
//   data    whole events, or a piece of another answer
//   piece   a part of an event that is too large for one frame; `data` ends it
//   end     all of the answer has been sent (JSON)
//   failed  the try, or the answer, has failed (JSON)
//   beat    the call lives, though there is nothing to tell
// `number` counts the frames of a call from 0: one that is missing is a failure of the call.
import type { Blamed } from "../llm/try.ts";
import { type LlmEndpoint, llmEndpoints } from "../models/llm-models.ts";

const LIVE_VERSION = 1;
/** A message has at most 1 MiB at the broker. */
export const PART_BYTES_MAX = 512 * 1024;
export const BODY_BYTES_MAX = 32 * 1024 * 1024;
const LINE_BYTES_MAX = 4_096;
const LF = 10;
const SPACE = 32;
const DIGIT_0 = 48;
const DIGIT_9 = 57;
const DIGITS_MAX = 15;

export interface OpenFrame {
  readonly tag: "open";
  readonly call: number;
  /** Where frames go. */
  readonly reply: string;
  readonly provider: string;
  readonly endpoint: LlmEndpoint;
  readonly contentType: string;
  readonly bodyBytes: number;
  readonly stream: boolean;
  readonly streamUsage: boolean;
  readonly requestId: string;
  readonly promptEstimate: number;
  /** What is left of the call's time. */
  readonly timeMs: number;
  /** Bytes that may be sent before `credit` comes. */
  readonly window: number;
}

export type ToActor =
  | OpenFrame
  | { readonly tag: "part"; readonly call: number; readonly reply: string }
  | { readonly tag: "credit"; readonly call: number; readonly reply: string; readonly bytes: number }
  | { readonly tag: "cancel"; readonly call: number; readonly reply: string };

export function encodeToActor(frame: ToActor, bytes?: Uint8Array): Uint8Array {
  const line = Buffer.from(`${JSON.stringify({ v: LIVE_VERSION, ...frame })}\n`);
  return bytes ? Buffer.concat([line, bytes]) : line;
}

/** Null for a message of another form or version. */
export function parseToActor(message: Uint8Array): { readonly frame: ToActor; readonly bytes: Uint8Array } | null {
  const end = message.indexOf(LF);
  if (end < 0 || end > LINE_BYTES_MAX) return null;
  const frame = parseJson(message.subarray(0, end));
  if (frame?.v !== LIVE_VERSION || !isCount(frame.call) || !isInbox(frame.reply)) return null;
  const known =
    frame.tag === "open"
      ? isOpen(frame)
      : frame.tag === "credit"
        ? isCount(frame.bytes)
        : frame.tag === "part" || frame.tag === "cancel";
  return known ? { frame: frame as unknown as ToActor, bytes: message.subarray(end + 1) } : null;
}

const isOpen = (frame: Record<string, unknown>): boolean =>
  isText(frame.provider) &&
  (llmEndpoints as readonly unknown[]).includes(frame.endpoint) &&
  isText(frame.contentType) &&
  isCount(frame.bodyBytes) &&
  frame.bodyBytes <= BODY_BYTES_MAX &&
  typeof frame.stream === "boolean" &&
  typeof frame.streamUsage === "boolean" &&
  isText(frame.requestId) &&
  isCount(frame.promptEstimate) &&
  isCount(frame.timeMs) &&
  isCount(frame.window);

export const gatewayTags = ["data", "head", "end", "taken", "piece", "failed", "beat"] as const;
export type GatewayTag = (typeof gatewayTags)[number];

export interface ToGateway {
  readonly tag: GatewayTag;
  readonly call: number;
  readonly number: number;
  readonly tokens: number;
  /** A view of the message. */
  readonly bytes: Uint8Array;
}

const messageStart = `${LIVE_VERSION}\n`;

/** Of a frame to a gateway; ASCII. */
export const encodeLine = (tag: GatewayTag, call: number, number: number, tokens: number, size: number): string =>
  `${tag} ${call} ${number} ${tokens} ${size}\n`;

export interface EncodedFrame {
  readonly line: string;
  readonly bytes: Uint8Array;
}

/** One message of `frames`, which are `size` bytes together. */
export function encodeToGateway(frames: readonly EncodedFrame[], size: number): Uint8Array {
  const message = Buffer.allocUnsafe(messageStart.length + size);
  let at = message.write(messageStart, "latin1");
  for (const { line, bytes } of frames) {
    at += message.write(line, at, "latin1");
    message.set(bytes, at);
    at += bytes.length;
  }
  return message;
}

/** Calls `take` for each frame, in order. False where the message is not of this form; what came before it was taken. */
export function parseToGateway(message: Uint8Array, take: (frame: ToGateway) => void): boolean {
  const reader = new LineReader(message);
  if (reader.count(LF) !== LIVE_VERSION) return false;
  while (reader.at < message.length) {
    const tag = reader.tag();
    const call = reader.count(SPACE);
    const number = reader.count(SPACE);
    const tokens = reader.count(SPACE);
    const size = reader.count(LF);
    const end = reader.at + size;
    if (tag === null || call < 0 || number < 0 || tokens < 0 || size < 0 || end > message.length) return false;
    take({ tag, call, number, tokens, bytes: message.subarray(reader.at, end) });
    reader.at = end;
  }
  return true;
}

/** Reads a line byte by byte: a gateway does so for each token that passes. */
class LineReader {
  at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Digits that end with the byte `end`; -1 for anything else, which is not passed over. */
  count(end: number): number {
    let value = 0;
    for (let at = this.at; at <= this.at + DIGITS_MAX; at++) {
      const byte = this.#bytes[at] ?? 0;
      if (byte === end && at > this.at) {
        this.at = at + 1;
        return value;
      }
      if (byte < DIGIT_0 || byte > DIGIT_9) return -1;
      value = value * 10 + byte - DIGIT_0;
    }
    return -1;
  }

  tag(): GatewayTag | null {
    for (const [tag, letters] of tagLetters) {
      if (letters.every((letter, i) => this.#bytes[this.at + i] === letter)) {
        this.at += letters.length;
        return tag;
      }
    }
    return null;
  }
}

/** Each with the space that follows it. */
const tagLetters = gatewayTags.map((tag) => [tag, [...Buffer.from(`${tag} `)]] as const);

export interface Head {
  readonly status: number;
  readonly contentType: string;
}

/** Of an `end`, and of a `failed` that comes after `head`. */
export interface Counted {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

export interface Failed extends Counted {
  readonly outcome: "failed" | "overloaded" | "unauthorized";
  readonly blamed: Blamed;
  readonly code: "upstream_failed" | "upstream_timeout" | "model_overloaded" | "model_unavailable";
  readonly message: string;
  readonly retryAfterS: number;
}

export function parseHead(bytes: Uint8Array): Head | null {
  const head = parseJson(bytes);
  const good = head !== null && isCount(head.status) && head.status >= 200 && head.status < 500;
  return good && isText(head.contentType) ? (head as unknown as Head) : null;
}

export function parseCounted(bytes: Uint8Array): Counted | null {
  const counted = parseJson(bytes);
  return counted !== null && isCounted(counted) ? (counted as unknown as Counted) : null;
}

export function parseFailed(bytes: Uint8Array): Failed | null {
  const failed = parseJson(bytes);
  const good =
    failed !== null &&
    isCounted(failed) &&
    ["failed", "overloaded", "unauthorized"].includes(String(failed.outcome)) &&
    ["server", "actor", "unclear"].includes(String(failed.blamed)) &&
    ["upstream_failed", "upstream_timeout", "model_overloaded", "model_unavailable"].includes(String(failed.code)) &&
    isText(failed.message) &&
    isCount(failed.retryAfterS);
  return good ? (failed as unknown as Failed) : null;
}

const isCounted = (value: Record<string, unknown>): boolean =>
  isCount(value.promptTokens) && isCount(value.completionTokens) && isCount(value.cachedTokens);

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
/** Frames are published there: another subject would have an actor write in its sender's stead. */
const isInbox = (value: unknown): value is string => typeof value === "string" && /^_INBOX\.\w{1,64}$/.test(value);
const isText = (value: unknown): value is string => typeof value === "string" && value.length <= 1_024;

function parseJson(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
