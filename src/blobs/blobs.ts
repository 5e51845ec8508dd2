// The contract of the object store: what the folder and the S3 adapter both do, and what the conformance suite
// (conformance.ts) checks on each. Keys are ours, never a user's: `^[a-z0-9][a-z0-9._-]*(/…)*`, at most 256 characters.

export interface BlobStat {
  readonly key: string;
  readonly sizeBytes: number;
  /** Lower-case hexadecimal SHA-256 of the content. */
  readonly sha256: string;
  readonly contentType: string;
}

/** A part of an object; `end` is inclusive, as in HTTP ranges. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface Blobs {
  /**
   * Stores an object whole or not at all; after it resolves the object survives a power cut (folder: fsync of file and
   * folders). Replaces an object of the same key. Throws `storage_unavailable`, `payload_too_large`.
   */
  put(key: string, content: Uint8Array | ReadableStream<Uint8Array>, options: BlobPutOptions): Promise<BlobStat>;
  /** The object's bytes as a stream. Throws `blob_not_found`. The caller reads it to the end or cancels it. */
  get(key: string, range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
  /** The object in memory. Throws `payload_too_large` above `sizeBytesMax`, `blob_not_found`, `blob_corrupt`. */
  read(key: string, sizeBytesMax: number): Promise<Uint8Array>;
  /** Null when there is no such object. */
  stat(key: string): Promise<BlobStat | null>;
  /** Idempotent. */
  delete(key: string): Promise<void>;
  /** Resolves when the store can be written; throws `storage_unavailable`. Creates the bucket or folder. */
  ready(): Promise<void>;
}

export interface BlobPutOptions {
  readonly contentType: string;
  /** Size in bytes where it is known beforehand; needed for streams to a store without multipart. */
  readonly sizeBytes?: number;
  readonly signal?: AbortSignal;
}
