// An object of the store as an answer: ranges, ETag, and headers that let no browser run it (attachment, sandbox,
// nosniff), for its bytes come from a stranger or from a model that a stranger fed. Results and files are sent by it.
import type { Blobs, ByteRange } from "../blobs/blobs.ts";
import { asAppError, messageOf } from "../errors.ts";
import { chooseRange } from "./range.ts";
import { type Call, reply, replyEmpty } from "./route.ts";

export interface SentBlob {
  readonly key: string;
  readonly contentType: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/**
 * Up to here an answer is gathered in memory and checked against its digest, and has a content-length; Bun sends every
 * stream chunked. Larger ones are streamed.
 */
const gatheredBytesMax = 4 * 1024 * 1024;

/** Also where a browser opens it in spite of the attachment: an origin of its own, and nothing runs. */
export const inertPolicy = "sandbox; default-src 'none'; frame-ancestors 'none'";

const MEDIA_TYPE = /^[\w.+-]{1,64}\/[\w.+-]{1,64}(?:; ?charset=[\w-]{1,32})?$/;

/**
 * The object, whole or the part that the request's Range asks for: 200, 206, 304 or 416. `filename` is what a browser
 * saves it as. Throws `storage_unavailable`.
 */
export async function sendBlob(call: Call, blob: SentBlob, filename: string, blobs: Blobs): Promise<Response> {
  const { headers } = call.request;
  const etag = `"${blob.sha256}"`;
  const always: Record<string, string> = {
    etag,
    // A result never changes, but whether this key may read it is asked again each time.
    "cache-control": "private, no-cache",
    "accept-ranges": "bytes",
    "content-disposition": contentDisposition(filename),
    "content-security-policy": inertPolicy,
  };
  if (matches(headers.get("if-none-match"), etag)) return replyEmpty(call, 304, always);

  const choice = chooseRange(headers.get("range"), headers.get("if-range"), etag, blob.sizeBytes);
  if (choice.kind === "unsatisfiable") {
    return replyEmpty(call, 416, { ...always, "content-range": `bytes */${blob.sizeBytes}` });
  }
  const range = choice.kind === "part" ? choice.range : null;
  const sizeBytes = range ? range.end - range.start + 1 : blob.sizeBytes;
  if (range) always["content-range"] = `bytes ${range.start}-${range.end}/${blob.sizeBytes}`;
  always["content-length"] = String(sizeBytes);
  const contentType = MEDIA_TYPE.test(blob.contentType) ? blob.contentType : "application/octet-stream";
  const body = call.request.method === "HEAD" ? null : await content(blobs, blob.key, range, sizeBytes);
  return reply(call, range ? 206 : 200, contentType, body, always);
}

async function content(
  blobs: Blobs,
  key: string,
  range: ByteRange | null,
  sizeBytes: number,
): Promise<Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>> {
  try {
    if (sizeBytes > gatheredBytesMax) return await blobs.get(key, range ?? undefined);
    if (range === null) return new Uint8Array(await blobs.read(key, gatheredBytesMax));
    return await Bun.readableStreamToBytes(await blobs.get(key, range));
  } catch (error) {
    if (asAppError(error)?.code === "storage_unavailable") throw error;
    // What names it is there and it is not, or is another one: no fault of the request.
    throw new Error(`the object ${key} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** RFC 6266 §4.3: what is not plain ASCII goes into `filename*`, and into `filename` as underscores. */
function contentDisposition(filename: string): string {
  const plain = filename.replace(/[^\w.+ -]/gu, "_");
  if (plain === filename) return `attachment; filename="${plain}"`;
  const encoded = encodeURIComponent(filename).replace(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}

/** Weak comparison, as If-None-Match wants it (RFC 9110 §13.1.2). */
const matches = (header: string | null, etag: string): boolean =>
  header?.split(",").some((tag) => ["*", etag, `W/${etag}`].includes(tag.trim())) ?? false;
