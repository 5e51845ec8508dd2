// Pictures of a conversation that stand behind a URL: fetched here, under the rules for addresses of strangers, and put
// into the request as data, so that no client can make a model server ask an address inside. Called for OpenAI's routes
// and for `ctx.llm` before any server is chosen. No URL of a client ever reaches a model server.
import { AppError, asAppError, invalidField } from "../errors.ts";
import type { FetchedBytes } from "../net/fetch-input.ts";
import { readImageHeader } from "../registry/image-header.ts";
import { saltOf } from "./encode.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Pictures behind URLs in one request: each is a connection of ours to a stranger. */
const FETCHED_MAX = 16;
/** Of all of them together, as long as the body may be. */
const FETCHED_BYTES_MAX = 16 * 1024 * 1024;
/** Of which a few at once. */
const FETCHING_MAX = 4;

/** Where an address begins is seen in so much of it. */
const ADDRESS_CHARS_MAX = 64;

/** The members of a part that vLLM follows, whatever the part's `type` says. */
const mediaNames = ["image_url", "audio_url", "video_url"] as const;

/** Content behind a checked URL, at most `sizeBytesMax`; as fetchInput. */
export type FetchMedia = (url: string, sizeBytesMax: number, signal: AbortSignal) => Promise<FetchedBytes>;

interface Place {
  readonly path: string;
  readonly url: string;
  readonly put: (url: string) => void;
}

export interface MediaParts {
  readonly keyId: string;
  readonly fetchMedia: FetchMedia;
  /** Takes room for what was fetched. Throws `not_ready` where there is none. */
  readonly reserve: (sizeBytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * The body with every picture in it as a data URL; the same body where nothing was to be fetched. Throws
 * `invalid_request` for a picture that cannot be had, for sound or video behind a URL, and for parts that would make
 * the server read memory or caches of others. The cause of the first is what fetching threw.
 */
export async function withMedia(body: Fields, parts: MediaParts): Promise<Fields> {
  if (!Array.isArray(body.messages) || !body.messages.some((message: Fields) => Array.isArray(message.content))) {
    return body;
  }
  const places: Place[] = [];
  const messages = body.messages.map((message: Fields, m) => {
    if (!Array.isArray(message.content)) return message;
    const content = message.content.map((part: unknown, p) =>
      typeof part === "object" && part !== null
        ? copied({ ...part }, `/messages/${m}/content/${p}`, parts.keyId, places)
        : part,
    );
    return { ...message, content };
  });
  if (places.length > FETCHED_MAX) throw invalidField("/messages", `have more than ${FETCHED_MAX} pictures by URL`);
  if (places.length > 0) await fetchAll(places, parts);
  return { ...body, messages };
}

/** A part whose URLs are noted in `places`; it is a copy of ours, written when they have been fetched. */
function copied(part: Record<string, unknown>, path: string, keyId: string, places: Place[]): object {
  for (const name of Object.keys(part)) {
    if (name.endsWith("_embeds")) throw invalidField(`${path}/${name.slice(0, 64)}`, "is not taken from clients");
  }
  // A server may keep what it has decoded under this name: each key has names of its own.
  if (typeof part.uuid === "string") part.uuid = saltOf(keyId, part.uuid);
  for (const name in part) {
    if (!isMedia(name) && !isWords(name) && namesHost(part[name]))
      throw invalidField(`${path}/${name.slice(0, 64)}`, dataAlone);
  }
  for (const name of mediaNames) {
    const given = part[name] ?? null;
    if (given === null) continue;
    const inner = typeof given === "object" ? { ...given } : { url: given };
    const { url } = inner as { url?: unknown };
    const at = `${path}/${name}`;
    if (typeof url !== "string") throw invalidField(at, "must hold a url");
    if (/^data:/i.test(url)) continue;
    if (name !== "image_url") throw invalidField(at, dataAlone);
    part[name] = inner;
    places.push({ path: at, url, put: (data) => Object.assign(inner, { url: data }) });
  }
  return part;
}

const dataAlone = "must be a data: URL";
const isMedia = (name: string): boolean => (mediaNames as readonly string[]).includes(name);
const isWords = (name: string): boolean => name === "text" || name === "refusal" || name === "thinking";

/** Whether there is an address anywhere in a member that nobody here knows: some server might follow it. */
const namesHost = (value: unknown): boolean =>
  typeof value === "string"
    ? /^\s*[a-z][a-z0-9+.-]{1,15}:\/\//i.test(value.slice(0, ADDRESS_CHARS_MAX))
    : typeof value === "object" && value !== null && Object.values(value).some(namesHost);

async function fetchAll(places: readonly Place[], { fetchMedia, reserve, signal }: MediaParts): Promise<void> {
  const waiting = [...places];
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  let leftBytes = FETCHED_BYTES_MAX;
  const work = async (): Promise<void> => {
    for (let place = waiting.shift(); place !== undefined; place = waiting.shift()) {
      const { bytes } = await fetchMedia(place.url, leftBytes, either).catch((error: unknown) => {
        throw unfetched(error, place?.path ?? "");
      });
      reserve(bytes.byteLength);
      leftBytes -= bytes.byteLength;
      if (leftBytes < 0) throw invalidField(place.path, `the pictures have more than ${FETCHED_BYTES_MAX} bytes`);
      const header = readImageHeader(bytes);
      if (header === null) throw invalidField(place.path, "is not a PNG, JPEG or WebP picture");
      place.put(`data:image/${header.format};base64,${Buffer.from(bytes).toString("base64")}`);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(FETCHING_MAX, places.length) }, work));
  } finally {
    failed.abort(new AppError("fetch_failed", "Another picture could not be fetched"));
  }
}

/** What was wrong with a picture's URL is the request's fault: the text of these errors is meant for clients. */
function unfetched(error: unknown, path: string): unknown {
  const known = asAppError(error);
  if (!known?.code.startsWith("fetch_")) return error;
  const { message, fields } = invalidField(path, known.message);
  return new AppError("invalid_request", message, { fields, cause: known });
}
