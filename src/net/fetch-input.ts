// The one place that opens a URL given by a user: pictures of tasks, through `ctx.fetchInput` and `ctx.image`. It
// connects only to addresses that it has checked, on every redirect anew, within limits of bytes and time. It must
// never forward a header of a caller, use a proxy of the environment, or pass an upstream's error text on.
import { lookup } from "node:dns/promises";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { AppError, asAppError } from "../errors.ts";
import { isPublicAddress } from "./addresses.ts";
import { parseTarget, type Target } from "./public-url.ts";

/** 25 MiB: the largest picture that a task may bring. */
const SIZE_BYTES_MAX = 25 * 1024 * 1024;
const REDIRECTS_MAX = 3;
/** Of a host with more addresses the first are tried; all are checked. */
const ADDRESSES_MAX = 4;

const HEADERS = { accept: "*/*", "accept-encoding": "identity", "user-agent": "millrace" } as const;

export interface FetchedBytes {
  readonly bytes: Uint8Array;
  /** As the server declared it; not to be trusted. Empty when it declared none. */
  readonly contentType: string;
  /** The address that was read in the end, after redirects. */
  readonly url: string;
}

interface Address {
  readonly address: string;
  readonly family: number;
}

export interface FetchOptions {
  /** Hosts that may be private: FETCH_ALLOW_HOSTS. */
  readonly allowHosts: readonly string[];
  /** Default 25 MiB. */
  readonly sizeBytesMax?: number;
  /** Its abort ends the fetch, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Of each hop: name, TCP and TLS. Default 3,000. */
  readonly connectMs?: number;
  /** Of each hop: from the connection to the answer's head. Default 5,000. */
  readonly firstByteMs?: number;
  /** Of all hops and the content. Default 10,000. */
  readonly totalMs?: number;
  /** All addresses of a name. Default: the system's resolver. */
  readonly resolve?: (host: string) => Promise<readonly Address[]>;
  /** Certificate authorities to trust, in PEM. Default: those of the runtime. */
  readonly ca?: string;
}

/**
 * The content behind `url`: one GET, up to three redirects, status 200, without content encoding. Throws
 * `fetch_blocked` (no public address, on any hop), `fetch_too_large`, `fetch_status` (an error status, too many
 * redirects, an encoded answer), and, worth another attempt, `fetch_timeout` and `fetch_failed` (no such name, no
 * connection, a broken answer, 429 or 5xx). Leaves no socket or timer behind, whatever happens.
 */
export async function fetchInput(url: string, options: FetchOptions): Promise<FetchedBytes> {
  options.signal?.throwIfAborted();
  const abort = new AbortController();
  const onCancel = (): void => abort.abort(options.signal?.reason);
  options.signal?.addEventListener("abort", onCancel, { once: true });
  const stopTotal = deadline(abort, options.totalMs ?? 10_000, "The URL took too long to answer in full");
  try {
    return await follow(url, options, abort);
  } catch (error) {
    // An abort surfaces as all sorts of socket errors; its reason says what happened.
    if (abort.signal.aborted) throw abort.signal.reason;
    throw (
      asAppError(error) ?? new AppError("fetch_failed", "The connection to the URL's host failed", { cause: error })
    );
  } finally {
    stopTotal();
    options.signal?.removeEventListener("abort", onCancel);
  }
}

async function follow(url: string, options: FetchOptions, abort: AbortController): Promise<FetchedBytes> {
  let target = parseTarget(url, options.allowHosts);
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
    const response = await open(target, options, abort);
    try {
      const location = redirectOf(response);
      if (location === null) {
        refuseAnswer(response);
        const bytes = await readAll(response, options.sizeBytesMax ?? SIZE_BYTES_MAX);
        return { bytes, contentType: response.headers["content-type"] ?? "", url: target.url.href };
      }
      const next = URL.parse(location, target.url.href);
      if (next === null) throw new AppError("fetch_status", "The URL redirects to something that is not a URL");
      target = parseTarget(next.href, options.allowHosts);
    } finally {
      response.destroy();
    }
  }
  throw new AppError("fetch_status", `The URL redirects more than ${REDIRECTS_MAX} times`);
}

/** Connects to a checked address of the target and resolves with the head of the answer. */
async function open(target: Target, options: FetchOptions, abort: AbortController): Promise<IncomingMessage> {
  const stopConnect = deadline(abort, options.connectMs ?? 3_000, "The URL's host did not accept a connection in time");
  let stopFirstByte = (): void => {};
  try {
    const addresses = await until(abort.signal, addressesOf(target, options.resolve ?? resolveAll));
    const secure = target.url.protocol === "https:";
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const request = (secure ? https : http).request({
        host: target.host, // TLS checks the certificate against this name, not against the address
        port: target.port,
        path: `${target.url.pathname}${target.url.search}`,
        headers: HEADERS,
        lookup: pinned(addresses),
        agent: false,
        signal: abort.signal,
        ...(options.ca === undefined ? {} : { ca: options.ca }),
      });
      request.once("socket", (socket) => {
        socket.once(secure ? "secureConnect" : "connect", () => {
          stopConnect();
          stopFirstByte = deadline(abort, options.firstByteMs ?? 5_000, "The URL did not begin to answer in time");
        });
      });
      request.once("response", resolve);
      request.on("error", reject); // stays: errors after the response arrive here too
      request.end();
    });
  } finally {
    stopConnect();
    stopFirstByte();
  }
}

/** Every address of the target, all of them checked. One private address among public ones blocks the name. */
async function addressesOf(
  target: Target,
  resolve: (host: string) => Promise<readonly Address[]>,
): Promise<readonly Address[]> {
  const family = isIP(target.host);
  const addresses = family === 0 ? await resolve(target.host) : [{ address: target.host, family }];
  if (addresses.length === 0) throw new AppError("fetch_failed", "The URL's host name has no address");
  if (!target.allowed && !addresses.every(({ address }) => isPublicAddress(address))) {
    throw new AppError("fetch_blocked", "The URL must lead to a public address");
  }
  return addresses.slice(0, ADDRESSES_MAX);
}

async function resolveAll(host: string): Promise<readonly Address[]> {
  try {
    return await lookup(host, { all: true });
  } catch (cause) {
    throw new AppError("fetch_failed", "The URL's host name could not be resolved", { cause });
  }
}

/** Answers the socket's look-up with what was checked, so that a name that changes its mind cannot redirect us. */
function pinned(addresses: readonly Address[]): LookupFunction {
  return (_host, options, done) => {
    const [first] = addresses;
    if (options.all || first === undefined) done(null, [...addresses]);
    else done(null, first.address, first.family);
  };
}

function redirectOf(response: IncomingMessage): string | null {
  const redirects = [301, 302, 303, 307, 308].includes(response.statusCode ?? 0);
  return redirects ? (response.headers.location ?? null) : null;
}

function refuseAnswer(response: IncomingMessage): void {
  const status = response.statusCode ?? 0;
  if (status !== 200) {
    const passing = status === 429 || status >= 500;
    throw new AppError(passing ? "fetch_failed" : "fetch_status", `The URL answered with status ${status}`);
  }
  // A compressed answer can grow a thousandfold; we asked for none.
  const encoding = response.headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") throw new AppError("fetch_status", "The URL answered with a compressed content");
}

async function readAll(response: IncomingMessage, sizeBytesMax: number): Promise<Uint8Array> {
  const tooLarge = (): AppError => new AppError("fetch_too_large", `The URL's content exceeds ${sizeBytesMax} bytes`);
  if (Number(response.headers["content-length"] ?? 0) > sizeBytesMax) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response as AsyncIterable<Uint8Array>) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > sizeBytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}

/** Aborts with `fetch_timeout` after `ms`; the returned function disarms it. */
function deadline(abort: AbortController, ms: number, message: string): () => void {
  const timer = setTimeout(() => abort.abort(new AppError("fetch_timeout", message)), ms);
  return () => clearTimeout(timer);
}

/** `work`, or the signal's reason when that comes first: the system's resolver cannot be cancelled. */
async function until<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
