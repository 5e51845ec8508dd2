// The object store on anything that speaks S3 (MinIO, Garage, SeaweedFS, RustFS, AWS), by the `minio` package, whose
// types and errors stop in this file. It must never leave an object without its SHA-256, which is user metadata of the
// same request that stores it: content is taken in whole first (spool.ts), so nothing is sent of a put that its source,
// its size or its caller ends early.
//
// Up to one part an object goes in a single PUT, larger ones as a multipart upload of our own making. The package's
// `putObject` looks for an unfinished upload of the same key and goes on with it, so that two puts at once would mix;
// it also needs ListMultipartUploads, which small servers lack. An upload that fails is aborted; where even that fails,
// the server keeps the parts: give the bucket a lifecycle rule AbortIncompleteMultipartUpload.
import { AsyncLocalStorage } from "node:async_hooks";
import { createHash } from "node:crypto";
import http, { IncomingMessage } from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { Client, type ClientOptions } from "minio";
import type { Config } from "../config.ts";
import { AppError, asAppError } from "../errors.ts";
import {
  type BlobPutOptions,
  type BlobStat,
  type Blobs,
  type ByteRange,
  checkContentType,
  checkKey,
  checkRange,
  corrupt,
  notFound,
  OBJECT_BYTES_MAX,
  tooLarge,
} from "./blobs.ts";
import { discard, STEP_DEADLINE_MS, within } from "./intake.ts";
import { type Spooled, spool } from "./spool.ts";

/** At least 5 MiB by the protocol. Each running put holds one part in memory. */
const PART_BYTES = 8 * 1024 ** 2;
/** By the protocol. */
const PARTS_MAX = 10_000;
const SHA256_HEADER = "x-amz-meta-sha256";

export type S3Settings = NonNullable<Config["s3"]>;

export interface MinioBlobsOptions {
  /** Default 1 GiB. */
  readonly sizeBytesMax?: number;
  /** Of each request, and of each pause between two chunks of a stream. Default 30 s. */
  readonly deadlineMs?: number;
  /** Where streams larger than one part wait for their SHA-256; needs room for them. Default the system's folder. */
  readonly spoolDir?: string;
  /** Default 8 MiB; at least 5 MiB. */
  readonly partBytes?: number;
}

/** A store in one bucket. Opens no connection by itself. Throws `invalid_config` for a bad endpoint or bucket name. */
export function minioBlobs(settings: S3Settings, options: MinioBlobsOptions = {}): Blobs {
  const { bucket } = settings;
  const deadlineMs = options.deadlineMs ?? STEP_DEADLINE_MS;
  const partBytes = options.partBytes ?? PART_BYTES;
  const sizeBytesMax = Math.min(options.sizeBytesMax ?? OBJECT_BYTES_MAX, partBytes * PARTS_MAX);
  const limits = { sizeBytesMax, deadlineMs, memoryBytesMax: partBytes, dir: options.spoolDir ?? tmpdir() };
  const { client, step } = connect(settings, deadlineMs);

  const put = async (key: string, body: Spooled, { contentType, signal }: BlobPutOptions): Promise<BlobStat> => {
    const { sizeBytes, sha256 } = body;
    const headers = { "content-type": contentType, [SHA256_HEADER]: sha256 };
    if (sizeBytes <= partBytes) {
      const bytes = bufferOf(await body.part(0, sizeBytes));
      await step(() => client.putObject(bucket, key, bytes, sizeBytes, headers), signal);
    } else {
      await putParts(key, body, headers, signal);
    }
    return { key, sizeBytes, sha256, contentType };
  };

  const putParts = async (key: string, body: Spooled, headers: Record<string, string>, signal?: AbortSignal) => {
    const upload = await step(() => client.initiateNewMultipartUpload(bucket, key, headers), signal);
    try {
      const etags: { part: number; etag: string }[] = [];
      for (let start = 0; start < body.sizeBytes; start += partBytes) {
        const bytes = bufferOf(await body.part(start, Math.min(start + partBytes, body.sizeBytes)));
        const partNumber = etags.length + 1;
        const part = { bucketName: bucket, objectName: key, uploadID: upload, partNumber, headers: {} };
        const { etag } = await step(() => client.uploadPart(part, bytes), signal);
        etags.push({ part: partNumber, etag });
      }
      await step(() => client.completeMultipartUpload(bucket, key, upload, etags), signal);
    } catch (error) {
      // The put fails with its own error; one of the clean-up (see the header) would only hide it.
      await step(() => client.abortMultipartUpload(bucket, key, upload)).catch(() => {});
      throw error;
    }
  };

  /** Null when the range begins at or beyond the end. */
  const request = async (key: string, range?: ByteRange): Promise<IncomingMessage | null> => {
    checkKey(key);
    if (range) checkRange(range);
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
  };

  const stat = async (key: string): Promise<BlobStat | null> => {
    checkKey(key);
    try {
      const found = await step(() => client.statObject(bucket, key));
      const contentType = String(found.metaData["content-type"] ?? "application/octet-stream");
      return { key, sizeBytes: found.size, sha256: recordedSha256(found.metaData.sha256, key), contentType };
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  };

  return {
    put: async (key, content, putOptions) => {
      try {
        checkKey(key);
        checkContentType(putOptions.contentType);
        await using body = await spool(content, putOptions, limits);
        return await put(key, body, putOptions);
      } catch (error) {
        discard(content);
        throw error;
      }
    },
    get: async (key, range) => {
      const response = await request(key, range);
      return response ? bodyStream(response, deadlineMs, range) : emptyStream();
    },
    read: async (key, readBytesMax) => {
      const response = await request(key);
      return response ? readWhole(response, deadlineMs, key, readBytesMax) : new Uint8Array();
    },
    stat,
    delete: async (key) => {
      checkKey(key);
      await step(() => client.removeObject(bucket, key)).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
    },
    ready: async () => {
      if (await step(() => client.bucketExists(bucket))) return;
      await step(() => client.makeBucket(bucket)).catch(async (error: unknown) => {
        // Another process may have made it in between.
        if (!(await step(() => client.bucketExists(bucket)))) throw error;
      });
    },
  };
}

type Step = <T>(call: () => Promise<T>, signal?: AbortSignal) => Promise<T>;

/**
 * A client, and `step`, which runs one call of it: until its deadline (`storage_unavailable`) or until `signal` aborts
 * (its reason), and then takes the call's sockets down. The package has no cancel, but it takes a transport; which call
 * a request belongs to is known there by the async context.
 */
function connect(settings: S3Settings, deadlineMs: number): { client: Client; step: Step } {
  const { hostname, port, useSSL } = parseEndpoint(settings);
  const calls = new AsyncLocalStorage<AbortSignal>();
  const base = useSSL ? https : http;
  const request = (options: http.RequestOptions, done: (response: IncomingMessage) => void): http.ClientRequest => {
    const signal = calls.getStore();
    return base.request(signal ? { ...options, signal } : options, done);
  };
  const client = newClient({
    endPoint: hostname,
    port,
    useSSL,
    accessKey: settings.accessKey,
    secretKey: settings.secretKey,
    transport: { request: request as typeof http.request },
    // The package announces its retries on the console; the error table says who tries again.
    retryOptions: { disableRetry: true },
  });
  const step: Step = async (call, signal) => {
    const end = new AbortController();
    try {
      return await within(calls.run(end.signal, call), deadlineMs, () => new Error("no answer in time"), signal);
    } catch (error) {
      end.abort();
      signal?.throwIfAborted();
      throw unavailable(error);
    }
  };
  return { client, step };
}

function newClient(options: ClientOptions): Client {
  try {
    return new Client(options);
  } catch (cause) {
    throw badSetting("S3_ENDPOINT", "must name a host by its DNS name or IP address", cause);
  }
}

function parseEndpoint(settings: S3Settings): { hostname: string; port: number; useSSL: boolean } {
  const { endpoint, bucket } = settings;
  const url = URL.parse(endpoint.includes("://") ? endpoint : `http://${endpoint}`);
  const plain = url !== null && url.pathname === "/" && `${url.username}${url.password}${url.search}${url.hash}` === "";
  if (!plain || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw badSetting("S3_ENDPOINT", "must be http://host:port or https://host:port and nothing more");
  }
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket) || bucket.includes("..")) {
    throw badSetting("S3_BUCKET", "must be 3 to 63 lower-case letters, digits, dots or hyphens");
  }
  const useSSL = url.protocol === "https:";
  // The package takes an IPv6 address without its brackets.
  return { hostname: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port) || (useSSL ? 443 : 80), useSSL };
}

const badSetting = (name: string, message: string, cause?: unknown): AppError =>
  new AppError("invalid_config", `${name} ${message}`, { cause, fields: [{ path: name, message }] });

async function readWhole(response: IncomingMessage, deadlineMs: number, key: string, sizeBytesMax: number) {
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
function bodyStream(response: IncomingMessage, deadlineMs: number, range?: ByteRange): ReadableStream<Uint8Array> {
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
          const next = await within(chunks.next(), deadlineMs, () => new Error("no data in time"));
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

const emptyStream = (): ReadableStream<Uint8Array> =>
  new ReadableStream<Uint8Array>({ start: (controller) => controller.close() });

/** Null where the server does not say. */
function lengthOf(response: IncomingMessage): number | null {
  const header = response.headers["content-length"];
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : null;
}

function recordedSha256(value: unknown, key: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  throw corrupt(key);
}

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The S3 error code behind one of our errors, as the package reports it. */
function vendorCode(error: unknown): string | null {
  const cause = asAppError(error)?.cause;
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : null;
}

/** HEAD has no body, so the package makes up `NotFound` from the status. */
const isMissing = (error: unknown): boolean => ["NoSuchKey", "NotFound"].includes(vendorCode(error) ?? "");

const unavailable = (cause: unknown): AppError =>
  asAppError(cause) ?? new AppError("storage_unavailable", "The object store does not answer as it should", { cause });
