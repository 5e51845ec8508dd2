// The content of an S3 response as a web stream or whole, for minio.ts. A server that stops sending, sends less or sends
// more than it was asked for must never look like the end of an object.
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { withDeadline } from "../deadline.ts";
import { type ByteRange, corrupt, tooLarge } from "./blobs.ts";
import { unavailable } from "./s3-client.ts";

/** User metadata, set by the request that stores an object. */
export const SHA256_HEADER = "x-amz-meta-sha256";

/** The object in memory, checked. Throws `payload_too_large`, `blob_corrupt`, `storage_unavailable`. */
export async function readWhole(response: IncomingMessage, deadlineMs: number, key: string, sizeBytesMax: number) {
  const chunks: Uint8Array[] = [];
  const hash = createHash("sha256");
  let sizeBytes = 0;
  try {
    const expected = recordedSha256(response.headers[SHA256_HEADER], key);
    if ((lengthOf(response) ?? 0) > sizeBytesMax) throw tooLarge(sizeBytesMax);
    for await (const chunk of bodyStream(response, deadlineMs)) {
      sizeBytes += chunk.length;
      if (sizeBytes > sizeBytesMax) throw tooLarge(sizeBytesMax);
      hash.update(chunk);
      chunks.push(chunk);
    }
    if (hash.digest("hex") !== expected) throw corrupt(key);
    return Buffer.concat(chunks);
  } catch (error) {
    response.destroy();
    throw error;
  }
}

/** The response's bytes, cut to `range` in case the server sends more than it was asked for. */
export function bodyStream(
  response: IncomingMessage,
  deadlineMs: number,
  range?: ByteRange,
): ReadableStream<Uint8Array> {
  if (range && range.start > 0 && response.statusCode !== 206) {
    response.destroy();
    throw unavailable(new Error("the server does not serve ranges"));
  }
  const wanted = range ? range.end - range.start + 1 : Number.POSITIVE_INFINITY;
  const sent = lengthOf(response);
  let left = Math.min(wanted, sent ?? wanted);
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const next = await withDeadline(chunks.next(), deadlineMs, () => new Error("no data in time"));
          if (!next.done) {
            const chunk = next.value.subarray(0, left);
            left -= chunk.length;
            if (chunk.length > 0) controller.enqueue(chunk);
          } else if (left > 0 && sent !== null) {
            throw new Error("the object ends early");
          }
          const cut = left === 0 && (sent === null || sent > wanted);
          if (!next.done && !cut) return;
          response.destroy();
          controller.close();
        } catch (error) {
          response.destroy();
          throw unavailable(error);
        }
      },
      cancel: () => {
        response.destroy();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Null where the server does not say. */
function lengthOf(response: IncomingMessage): number | null {
  const header = response.headers["content-length"];
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : null;
}

/** `blob_corrupt` where an object has none: `put` did not write it. */
export function recordedSha256(value: unknown, key: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  throw corrupt(key);
}
