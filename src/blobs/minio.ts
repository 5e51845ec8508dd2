// The object store on anything that speaks S3 (MinIO, Garage, SeaweedFS, RustFS, AWS), by the `minio` package, whose
// types and errors stop here and in s3-client.ts. It must never leave an object without its SHA-256, which is user
// metadata of the same request that stores it: content is taken in whole first (spool.ts), so nothing is sent of a put
// that its source, its size or its caller ends early.
//
// Up to one part an object goes in a single PUT, larger ones as a multipart upload of our own making. The package's
// `putObject` looks for an unfinished upload of the same key and goes on with it, so that two puts at once would mix;
// it also needs ListMultipartUploads, which small servers lack. An upload that fails is aborted; where even that fails,
// the server keeps the parts: give the bucket a lifecycle rule AbortIncompleteMultipartUpload.
import { IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import {
  type BlobEntry,
  type BlobPutOptions,
  type BlobStat,
  type Blobs,
  type ByteRange,
  checkContentType,
  checkKey,
  checkPrefix,
  checkRange,
  notFound,
  OBJECT_BYTES_MAX,
} from "./blobs.ts";
import { discard, STEP_DEADLINE_MS } from "./intake.ts";
import { bodyStream, readWhole, recordedSha256, SHA256_HEADER } from "./s3-body.ts";
import { connect, isMissing, type S3, type S3Settings, vendorCode } from "./s3-client.ts";
import { type Spooled, spool } from "./spool.ts";

/** At least 5 MiB by the protocol. Each running put holds one part in memory. */
const PART_BYTES = 8 * 1024 ** 2;
/** By the protocol. */
const PARTS_MAX = 10_000;

export interface MinioBlobsOptions {
  /** Default 1 GiB. */
  readonly sizeBytesMax?: number;
  /** Of each request, and of each pause between two chunks of a stream. Default 30 s. */
  readonly deadlineMs?: number;
  /** Where streams larger than one part wait for their SHA-256; needs room for them. Default the system's folder. */
  readonly spoolDir?: string;
  /** Default 8 MiB; 5 MiB to 64 MiB (beyond it the package would split parts by itself). */
  readonly partBytes?: number;
}

/** A store in one bucket. Opens no connection by itself. Throws `invalid_config` for a bad endpoint or bucket name. */
export function minioBlobs(settings: S3Settings, options: MinioBlobsOptions = {}): Blobs {
  const deadlineMs = options.deadlineMs ?? STEP_DEADLINE_MS;
  const partBytes = options.partBytes ?? PART_BYTES;
  const sizeBytesMax = Math.min(options.sizeBytesMax ?? OBJECT_BYTES_MAX, partBytes * PARTS_MAX);
  const limits = { sizeBytesMax, deadlineMs, memoryBytesMax: partBytes, dir: options.spoolDir ?? tmpdir() };
  const s3 = connect(settings, deadlineMs);
  const { client, bucket, step } = s3;

  return {
    put: async (key, content, putOptions) => {
      try {
        checkKey(key);
        checkContentType(putOptions.contentType);
        await using body = await spool(content, putOptions, limits);
        return await upload(s3, key, body, putOptions, partBytes);
      } catch (error) {
        discard(content);
        throw error;
      }
    },
    get: async (key, range) => {
      checkKey(key);
      if (range) checkRange(range);
      const response = await download(s3, key, range);
      return response ? bodyStream(response, deadlineMs, range) : emptyStream();
    },
    read: async (key, readBytesMax) => {
      checkKey(key);
      const response = await download(s3, key);
      return response ? readWhole(response, deadlineMs, key, readBytesMax) : new Uint8Array();
    },
    stat: async (key) => {
      checkKey(key);
      return describe(s3, key);
    },
    delete: async (key) => {
      checkKey(key);
      await step(() => client.removeObject(bucket, key)).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
    },
    list: (prefix) => entries(s3, prefix),
    ready: async () => {
      if (await step(() => client.bucketExists(bucket))) return;
      await step(() => client.makeBucket(bucket)).catch(async (error: unknown) => {
        // Another process may have made it in between.
        if (!(await step(() => client.bucketExists(bucket)))) throw error;
      });
    },
  };
}

async function upload(
  s3: S3,
  key: string,
  body: Spooled,
  options: BlobPutOptions,
  partBytes: number,
): Promise<BlobStat> {
  const { client, bucket, step } = s3;
  const { contentType, signal } = options;
  const { sizeBytes, sha256 } = body;
  const headers = { "content-type": contentType, [SHA256_HEADER]: sha256 };
  if (sizeBytes <= partBytes) {
    const bytes = bufferOf(await body.part(0, sizeBytes));
    await step(() => client.putObject(bucket, key, bytes, sizeBytes, headers), signal);
  } else {
    const uploadId = await step(() => client.initiateNewMultipartUpload(bucket, key, headers), signal);
    try {
      const etags = await uploadParts(s3, key, uploadId, body, partBytes, signal);
      await step(() => client.completeMultipartUpload(bucket, key, uploadId, etags), signal);
    } catch (error) {
      // The put fails with its own error; one of the clean-up (see the header) would only hide it.
      await step(() => client.abortMultipartUpload(bucket, key, uploadId)).catch(() => {});
      throw error;
    }
  }
  return { key, sizeBytes, sha256, contentType };
}

/** One after the other, so that a put holds one part in memory. */
async function uploadParts(
  { client, bucket, step }: S3,
  key: string,
  uploadId: string,
  body: Spooled,
  partBytes: number,
  signal: AbortSignal | undefined,
): Promise<{ part: number; etag: string }[]> {
  const etags: { part: number; etag: string }[] = [];
  for (let start = 0; start < body.sizeBytes; start += partBytes) {
    const bytes = bufferOf(await body.part(start, Math.min(start + partBytes, body.sizeBytes)));
    const partNumber = etags.length + 1;
    const part = { bucketName: bucket, objectName: key, uploadID: uploadId, partNumber, headers: {} };
    const { etag } = await step(() => client.uploadPart(part, bytes), signal);
    etags.push({ part: partNumber, etag });
  }
  return etags;
}

/** Null when the range begins at or beyond the end. */
async function download({ client, bucket, step }: S3, key: string, range?: ByteRange): Promise<IncomingMessage | null> {
  const length = range ? range.end - range.start + 1 : 0;
  try {
    const response = await step(() => client.getPartialObject(bucket, key, range?.start ?? 0, length));
    if (response instanceof IncomingMessage) return response;
    throw new TypeError("the minio package answered something else than an HTTP response");
  } catch (error) {
    if (isMissing(error)) throw notFound(key);
    if (range && vendorCode(error) === "InvalidRange") return null;
    throw error;
  }
}

/** A page of the protocol at a time; the package keeps its own query of pages for itself and streams them. */
async function* entries({ client, bucket, step }: S3, prefix: string): AsyncGenerator<BlobEntry, void, void> {
  checkPrefix(prefix);
  const items = client.listObjectsV2(bucket, prefix, true)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await step(() => items.next());
      if (next.done) return;
      const { name, lastModified } = next.value as { name?: string; lastModified?: Date };
      if (name !== undefined && lastModified !== undefined) yield { key: name, storedAtMs: lastModified.getTime() };
    }
  } finally {
    await items.return?.();
  }
}

async function describe({ client, bucket, step }: S3, key: string): Promise<BlobStat | null> {
  try {
    const found = await step(() => client.statObject(bucket, key));
    const contentType = String(found.metaData["content-type"] ?? "application/octet-stream");
    return { key, sizeBytes: found.size, sha256: recordedSha256(found.metaData.sha256, key), contentType };
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

const emptyStream = (): ReadableStream<Uint8Array> =>
  new ReadableStream<Uint8Array>({ start: (controller) => controller.close() });

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
