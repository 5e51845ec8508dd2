// The contract of the object store: what the folder and the S3 adapter both do, and what the conformance suite
// (conformance.ts) checks on each. Gateways and actors call it; keys are ours, never a user's text.
import { AppError } from "../errors.ts";

/** The longest name that a file system gives a file; a key becomes one file name in the folder adapter. */
const KEY_LENGTH_MAX = 255;
const KEY = /^[a-z0-9][a-z0-9._-]*(?:\/[a-z0-9][a-z0-9._-]*)*$/;

/** RFC 9110 8.3.1, in visible ASCII: it travels in an HTTP header. RFC 6838 4.2 bounds each half to 127 characters. */
const CONTENT_TYPE = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:;[\x20-\x7e]*)?$/;
const CONTENT_TYPE_LENGTH_MAX = 127;

/** Above the 512 MB that the OpenAI API allows for a file, which is the largest thing a client may bring. */
export const OBJECT_BYTES_MAX = 1024 ** 3;

export interface BlobStat {
  readonly key: string;
  readonly sizeBytes: number;
  /** Lower-case hexadecimal SHA-256 of the content. */
  readonly sha256: string;
  readonly contentType: string;
}

export interface BlobEntry {
  readonly key: string;
  /** When it was stored, milliseconds since the epoch, by the store's clock. */
  readonly storedAtMs: number;
}

/**
 * A part of an object; both ends are inclusive, as in HTTP ranges. Whole numbers, `0 <= start <= end`, or the call
 * throws `internal`.
 */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Every method throws `internal` for a key that is not one of ours and `storage_unavailable` when the store fails. */
export interface Blobs {
  /**
   * Stores an object whole or not at all; after it resolves the object survives a power cut (folder: fsync of file and
   * folders; S3: what the server promises for an acknowledged PUT). Replaces an object of the same key: a reader gets
   * the old one or the new one, and one of two concurrent puts wins whole. Throws `payload_too_large` above the store's
   * limit (default 1 GiB), `invalid_request` for a content type that is none or a size other than `sizeBytes`,
   * `request_timeout` when the stream pauses for 30 s, the signal's reason on abort, and what the stream throws. On
   * every failure a given stream is cancelled.
   */
  put(key: string, content: Uint8Array | ReadableStream<Uint8Array>, options: BlobPutOptions): Promise<BlobStat>;
  /**
   * The object's bytes as a stream, pulled as they are read. The caller reads it to the end or cancels it. A range that
   * reaches beyond the end is cut there, one that begins there is empty. Not checked against the SHA-256, but an object
   * that ends early is an error of the stream. Throws `blob_not_found`, `blob_corrupt`.
   */
  get(key: string, range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
  /** The object in memory. Throws `payload_too_large` above `sizeBytesMax`, `blob_not_found`, `blob_corrupt`. */
  read(key: string, sizeBytesMax: number): Promise<Uint8Array>;
  /** Null when there is no such object. Reads no content. Throws `blob_corrupt` for what `put` did not write. */
  stat(key: string): Promise<BlobStat | null>;
  /** Idempotent. */
  delete(key: string): Promise<void>;
  /**
   * The objects whose keys begin with `prefix` (a key's beginning up to a slash, or empty), in no order. What is put or
   * deleted meanwhile may be among them or not. Ends early when the caller leaves the loop.
   */
  list(prefix: string): AsyncIterable<BlobEntry>;
  /**
   * Resolves when the store can be used (folder: a file can be made; S3: the bucket answers); throws
   * `storage_unavailable`. Creates the bucket or folder. Cheap enough for a health check.
   */
  ready(): Promise<void>;
}

export interface BlobPutOptions {
  /** A media type in ASCII, at most 127 characters. */
  readonly contentType: string;
  /** Size in bytes where it is known beforehand; any other size is then refused. */
  readonly sizeBytes?: number;
  readonly signal?: AbortSignal;
}

/** Throws `internal` for anything but a key of ours: no traversal, no absolute path, no empty segment, no NUL. */
export function checkKey(key: string): void {
  if (key.length > KEY_LENGTH_MAX || !KEY.test(key)) throw new AppError("internal", "An object key is not valid");
}

/** Throws `internal` for anything but the beginning of our keys up to a slash, or the empty text. */
export function checkPrefix(prefix: string): void {
  if (prefix === "") return;
  if (!prefix.endsWith("/")) throw new AppError("internal", "A prefix of object keys ends in a slash");
  checkKey(prefix.slice(0, -1));
}

export function checkContentType(contentType: string): void {
  if (contentType.length > CONTENT_TYPE_LENGTH_MAX || !CONTENT_TYPE.test(contentType)) {
    throw new AppError("invalid_request", "The content type is not a media type");
  }
}

export function checkRange(range: ByteRange): void {
  const { start, end } = range;
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start) {
    throw new AppError("internal", "A byte range is not valid");
  }
}

export const notFound = (key: string): AppError => new AppError("blob_not_found", `There is no object ${key}`);

export const corrupt = (key: string): AppError => new AppError("blob_corrupt", `The object ${key} is damaged`);

export const tooLarge = (sizeBytesMax: number): AppError =>
  new AppError("payload_too_large", `The object is larger than ${sizeBytesMax} bytes`);
