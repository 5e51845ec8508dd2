// What a store takes in: the content of a put, chunk by chunk, with the limits that hold for every adapter. Used by
// both adapters and by nothing else; it must never hold more of a stream than the chunk it hands on.
import { withDeadline } from "../deadline.ts";
import { AppError } from "../errors.ts";
import { type BlobPutOptions, tooLarge } from "./blobs.ts";

/** How long a stream may pause before its put is given up, and how long a server may take for one step. */
export const STEP_DEADLINE_MS = 30_000;

export interface IntakeLimits {
  readonly sizeBytesMax: number;
  /** Between two chunks. */
  readonly deadlineMs: number;
}

/**
 * The chunks of `content`; the next one is asked of a stream only when the last was dealt with. Throws
 * `payload_too_large`, `invalid_request` (another size than announced), `request_timeout`, the signal's reason, and what
 * the stream throws. Leaving the loop early cancels the stream.
 */
export async function* chunksOf(
  content: Uint8Array | ReadableStream<Uint8Array>,
  options: BlobPutOptions,
  limits: IntakeLimits,
): AsyncGenerator<Uint8Array, void, void> {
  let sizeBytes = 0;
  const announced = options.sizeBytes;
  const count = (chunk: Uint8Array): void => {
    sizeBytes += chunk.length;
    if (sizeBytes > limits.sizeBytesMax) throw tooLarge(limits.sizeBytesMax);
    if (announced !== undefined && sizeBytes > announced) throw wrongSize();
  };
  if (content instanceof Uint8Array) {
    options.signal?.throwIfAborted();
    count(content);
    yield content;
  } else {
    const reader = content.getReader();
    let ended = false;
    try {
      options.signal?.throwIfAborted();
      if (announced !== undefined && announced > limits.sizeBytesMax) throw tooLarge(limits.sizeBytesMax);
      for (;;) {
        const next = await withDeadline(reader.read(), limits.deadlineMs, slowBody, options.signal);
        if (next.done) break;
        count(next.value);
        yield next.value;
      }
      ended = true;
    } finally {
      // Not awaited: a source that does not heed its cancel must not hold up the failure that is on its way.
      if (!ended) void reader.cancel().catch(() => {});
    }
  }
  if (announced !== undefined && sizeBytes !== announced) throw wrongSize();
}

/** For a put that fails before it has begun to read: its source learns that nobody will. */
export function discard(content: Uint8Array | ReadableStream<Uint8Array>): void {
  if (content instanceof ReadableStream && !content.locked) void content.cancel().catch(() => {});
}

const wrongSize = (): AppError => new AppError("invalid_request", "The content does not have the announced size");
const slowBody = (): AppError => new AppError("request_timeout", "The content arrived too slowly");
