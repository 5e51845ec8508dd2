// The one way to a host that a user named: resolves it, checks every address, and connects to what it has checked.
// Called by fetch-input.ts and post.ts, which know what to ask. It must never use a proxy of the environment, keep a
// connection for another request, or look a name up a second time.
import { lookup } from "node:dns/promises";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { AppError, asAppError } from "../errors.ts";
import { isPublicAddress } from "./addresses.ts";
import type { Target } from "./public-url.ts";

/** Of a host with more addresses the first are tried; all are checked. */
const ADDRESSES_MAX = 4;

interface Address {
  readonly address: string;
  readonly family: number;
}

export interface ConnectOptions {
  /** Of each connection: name, TCP and TLS. Default 3,000. */
  readonly connectMs?: number;
  /** Of each connection: from there to the answer's head. Default 5,000. */
  readonly firstByteMs?: number;
  /** All addresses of a name. Default: the system's resolver. */
  readonly resolve?: (host: string) => Promise<readonly Address[]>;
  /** Certificate authorities to trust, in PEM. Default: those of the runtime. */
  readonly ca?: string;
}

/** What is sent. Headers are of our own making: never a caller's. */
export interface Outgoing {
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

/**
 * Connects to a checked address of the target, sends the request and resolves with the head of the answer; whoever gets
 * it destroys it. Throws `fetch_blocked` (an address that is not public) and `fetch_failed` (no such name); other
 * failures are socket errors, and where `abort` ended it they mean nothing: its reason does.
 */
export async function open(
  target: Target,
  outgoing: Outgoing,
  options: ConnectOptions,
  abort: AbortController,
): Promise<IncomingMessage> {
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
        method: outgoing.method,
        headers: outgoing.headers,
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
      request.end(outgoing.body);
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

/**
 * What `work` resolves to: one exchange with a stranger's host, cut off after `totalMs` (`fetch_timeout` with `late`) or
 * when `signal` aborts. Whatever a socket says of its end becomes `fetch_failed`. Leaves no timer and no listener.
 */
export async function exchange<T>(
  signal: AbortSignal | undefined,
  totalMs: number,
  late: string,
  work: (abort: AbortController) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const abort = new AbortController();
  const onCancel = (): void => abort.abort(signal?.reason);
  signal?.addEventListener("abort", onCancel, { once: true });
  const stopTotal = deadline(abort, totalMs, late);
  try {
    return await work(abort);
  } catch (error) {
    // An abort surfaces as all sorts of socket errors; its reason says what happened.
    if (abort.signal.aborted) throw abort.signal.reason;
    throw (
      asAppError(error) ?? new AppError("fetch_failed", "The connection to the URL's host failed", { cause: error })
    );
  } finally {
    stopTotal();
    signal?.removeEventListener("abort", onCancel);
  }
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
