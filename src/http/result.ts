// `GET /v1/tasks/{id}/result`: what the task made, as JSON or as the stored bytes. The bytes come from a model that was
// fed by a stranger: they are sent so that no browser runs them (attachment, sandbox, nosniff).
import type { Blobs, ByteRange } from "../blobs/blobs.ts";
import { asAppError, messageOf } from "../errors.ts";
import type { TaskResult, Tasks } from "../tasks/tasks.ts";
import { chooseRange } from "./range.ts";
import { type KeyedCall, reply, replyEmpty, replyJson, taskIdOf } from "./route.ts";

type BlobResult = Extract<TaskResult, { kind: "blob" }>;

/**
 * Up to here an answer is gathered in memory and checked against its digest, and has a content-length; Bun sends every
 * stream chunked. Larger ones are streamed.
 */
const gatheredBytesMax = 4 * 1024 * 1024;

/** Also where a browser opens it in spite of the attachment: an origin of its own, and nothing runs. */
const inertPolicy = "sandbox; default-src 'none'; frame-ancestors 'none'";

const MEDIA_TYPE = /^[\w.+-]{1,64}\/[\w.+-]{1,64}(?:; ?charset=[\w-]{1,32})?$/;

export function createResult(tasks: Tasks, blobs: Blobs): (call: KeyedCall) => Promise<Response> {
  return async (call) => {
    const taskId = taskIdOf(call);
    const result = await tasks.result(taskId, call.owner);
    if (result === null) {
      const view = await tasks.read(taskId, call.owner);
      return replyJson(call, 202, view.json, { "retry-after": "1" });
    }
    if (result.kind === "json") return replyJson(call, 200, result.json, { "content-security-policy": inertPolicy });
    return sendBlob(call, taskId, result, blobs);
  };
}

async function sendBlob(call: KeyedCall, taskId: string, blob: BlobResult, blobs: Blobs): Promise<Response> {
  const { headers } = call.request;
  const etag = `"${blob.sha256}"`;
  const always: Record<string, string> = {
    etag,
    // A result never changes, but whether this key may read it is asked again each time.
    "cache-control": "private, no-cache",
    "accept-ranges": "bytes",
    "content-disposition": `attachment; filename="${taskId}${extensionOf(blob.key)}"`,
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
    // The record names an object that is not there, or another one: no fault of the request.
    throw new Error(`the object of a result cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** `.png` of `results/<id>-<fence>.png`; empty when the key has no plain extension. */
const extensionOf = (key: string): string => /\.[a-z0-9]{1,8}$/.exec(key)?.[0] ?? "";

/** Weak comparison, as If-None-Match wants it (RFC 9110 §13.1.2). */
const matches = (header: string | null, etag: string): boolean =>
  header?.split(",").some((tag) => ["*", etag, `W/${etag}`].includes(tag.trim())) ?? false;
