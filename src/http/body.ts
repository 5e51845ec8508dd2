// Bytes from a client become a JSON value here and only here: media type, size, time, encoding and nesting are checked
// before JSON.parse sees anything, names and numbers after. Routes call readJson; schemas come later and see only
// values that are safe to walk. Bun and Elysia on their own take forms, repair bad UTF-8 and overflow on deep nesting.

import { AppError, type FieldProblem } from "../errors.ts";
import type { Owner } from "../tasks/tasks.ts";
import type { Reservation } from "./body-room.ts";
import type { KeyedCall } from "./route.ts";

/** Inputs carry pictures as base64; what is larger goes by URL. */
export const bodyBytesMax = 16 * 1024 * 1024;
/** Smaller bodies need no room: sockets are dearer. */
export const smallBytesMax = 64 * 1024;
/** Deeper documents have no use here and can overflow a recursive reader. */
const depthMax = 64;
/** Object keys in one document; hash tables are the dearest thing a small body can ask for. */
const keysMaxDefault = 10_000;
/** Values of arrays in one document: each costs a hundred times its two bytes, and the loop stands while it is read. */
const itemsMaxDefault = 100_000;
/** The media types that are taken are short; beyond it nothing is matched. */
const mediaTypeCharsMax = 64;
/** 16 MiB in this time is 2.2 Mbit/s. A client that drips bytes holds a connection no longer. */
export const bodyMsMax = 60_000;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * The JSON value of a request's body. Throws `unsupported_media_type` (415), `payload_too_large` (413),
 * `request_timeout` (408), `not_ready` (503: too many large bodies arrive), `invalid_json` (400: UTF-8, syntax, more than 64 levels) and `invalid_request` (422: more
 * than `keysMax` keys or `itemsMax` array items, names that could reach a prototype, numbers beyond a double, NUL
 * characters).
 */
export async function readJson(
  { request, owner, room }: Pick<KeyedCall, "request" | "room"> & { readonly owner: Owner },
  timeoutMs = bodyMsMax,
  keysMax = keysMaxDefault,
  itemsMax = itemsMaxDefault,
): Promise<unknown> {
  checkMediaType(request.headers);
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) > bodyBytesMax) throw tooLarge();
  // With a content-length the parser of HTTP has already bounded what follows; without one we count.
  if (declared !== null && Number(declared) <= smallBytesMax) {
    return parseJson(decode(await withinMs(request.bytes(), timeoutMs)), keysMax, itemsMax);
  }
  const reservation = room.reserve(owner.keyId);
  if (declared !== null) reservation.add(Number(declared));
  const reading = declared === null ? readCounted(request.body, reservation) : request.bytes();
  // Also where it is late: what is read on and given to nobody stays in memory until the client is done or gone.
  void reading.then(reservation.release, reservation.release);
  return parseJson(decode(await withinMs(reading, timeoutMs)), keysMax, itemsMax);
}

const tooLarge = (): AppError =>
  new AppError("payload_too_large", "The body may have at most 16 MiB. Send large files by URL.");

function checkMediaType(headers: Headers): void {
  const type = headers.get("content-type") ?? "";
  const isShort = type.length <= mediaTypeCharsMax;
  if (type !== "application/json" && !(isShort && /^application\/json *(?:; *charset="?utf-8"?)? *$/i.test(type))) {
    throw new AppError(
      "unsupported_media_type",
      "Send JSON with the header content-type: application/json. With curl use --json instead of -d, or add " +
        "-H 'content-type: application/json'.",
    );
  }
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity") {
    throw new AppError("unsupported_media_type", "Compressed bodies are not taken: send it without content-encoding.");
  }
}

async function readCounted(body: ReadableStream<Uint8Array> | null, reservation: Reservation): Promise<Uint8Array> {
  if (body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  // Leaving the loop by a throw cancels the stream.
  for await (const chunk of body) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > bodyBytesMax) throw tooLarge();
    reservation.add(chunk.byteLength);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}

/** What `work` settles to, or `request_timeout`. One promise and one timer: this is on the path of every submission. */
const withinMs = <T>(work: Promise<T>, timeoutMs: number): Promise<T> =>
  new Promise((resolve, reject) => {
    const late = (): void => reject(new AppError("request_timeout", "The body did not arrive in time."));
    const timer = setTimeout(late, timeoutMs);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new AppError("invalid_json", "The body is not valid UTF-8.");
  }
}

/** The value of a JSON text, with the limits of readJson. Of duplicate keys the last wins. */
export function parseJson(text: string, keysMax = keysMaxDefault, itemsMax = itemsMaxDefault): unknown {
  scan(text, keysMax, itemsMax);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message quotes the text: it stays here.
    throw new AppError("invalid_json", "The body is not valid JSON (RFC 8259).");
  }
  const problem = hazardOf(value);
  if (problem) throw new AppError("invalid_request", "The body is not valid.", { fields: [problem] });
  return value;
}

/**
 * Depth, number of keys and of array items, before anything is built. Up to the first syntax error this reads brackets,
 * strings, colons and commas as a parser would, and a parser stops there: what it passes cannot make JSON.parse go
 * deeper.
 */
function scan(text: string, keysMax: number, itemsMax: number): void {
  let depth = 0;
  let keys = 0;
  let commas = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x22) {
      i = endOfString(text, i);
      if (i < 0) return;
    } else if (code === 0x7b || code === 0x5b) {
      if (++depth > depthMax) throw new AppError("invalid_json", `The body is nested deeper than ${depthMax} levels.`);
    } else if (code === 0x7d || code === 0x5d) depth--;
    else if (code === 0x3a && ++keys > keysMax) {
      throw new AppError("invalid_request", `The body has more than ${keysMax} keys.`);
    } else if (code === 0x2c && ++commas > keysMax + itemsMax) {
      throw new AppError("invalid_request", `The body has more than ${itemsMax} array items.`);
    }
  }
}

/** The index of the quote that ends the string begun at `start`, or -1. Each backslash is looked at once. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return -1;
}

/**
 * The first thing that JSON allows and no route takes, wherever it stands. Recursion is bounded by the depth that
 * `scan` let through. NUL characters are refused by the schemas.
 */
function hazardOf(value: unknown): FieldProblem | null {
  if (typeof value === "number")
    return Number.isFinite(value) ? null : { path: "", message: "is beyond the range of a double" };
  if (typeof value !== "object" || value === null) return null;
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      const found = hazardOf(item);
      if (found) return { path: `/${index}${found.path}`, message: found.message };
    }
    return null;
  }
  for (const key in value) {
    if (key === "__proto__" || key === "constructor") return { path: `/${key}`, message: "this name is reserved" };
    const found = hazardOf((value as Record<string, unknown>)[key]);
    if (found) return { path: `/${pointer(key)}${found.path}`, message: found.message };
  }
  return null;
}

/** A name as a token of a JSON Pointer (RFC 6901 §3). */
const pointer = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");
