// The way to an S3 server: one client of the `minio` package, with the deadlines, the cancel and the errors that the
// package lacks. minio.ts makes it and asks everything through `step`; it must never wait without an end.
import { AsyncLocalStorage } from "node:async_hooks";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { Client, type ClientOptions } from "minio";
import type { Config } from "../config.ts";
import { withDeadline } from "../deadline.ts";
import { AppError, asAppError } from "../errors.ts";

export type S3Settings = NonNullable<Config["s3"]>;

export type Step = <T>(call: () => Promise<T>, signal?: AbortSignal) => Promise<T>;

export interface S3 {
  readonly client: Client;
  readonly bucket: string;
  readonly step: Step;
}

/**
 * A client, and `step`, which runs one call of it: until its deadline (`storage_unavailable`) or until `signal` aborts
 * (its reason), and then takes the call's sockets down. The package has no cancel, but it takes a transport; which call
 * a request belongs to is known there by the async context.
 */
export function connect(settings: S3Settings, deadlineMs: number): S3 {
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
      return await withDeadline(calls.run(end.signal, call), deadlineMs, () => new Error("no answer in time"), signal);
    } catch (error) {
      end.abort();
      signal?.throwIfAborted();
      throw unavailable(error);
    }
  };
  return { client, bucket: settings.bucket, step };
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

/** The S3 error code behind an error of `step`, as the package reports it. */
export function vendorCode(error: unknown): string | null {
  const cause = asAppError(error)?.cause;
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : null;
}

/** HEAD has no body, so the package makes up `NotFound` from the status. */
export const isMissing = (error: unknown): boolean => ["NoSuchKey", "NotFound"].includes(vendorCode(error) ?? "");

export const unavailable = (cause: unknown): AppError =>
  asAppError(cause) ?? new AppError("storage_unavailable", "The object store does not answer as it should", { cause });
