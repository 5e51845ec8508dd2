// Reads what a URL given by a user holds: pictures of tasks, through `ctx.fetchInput` and `ctx.image`. It connects only
// to addresses that connect.ts has checked, on every redirect anew, within limits of bytes and time. It must never
// forward a header of a caller, use a proxy of the environment, or pass an upstream's error text on.
import type { IncomingMessage } from "node:http";
import { AppError } from "../errors.ts";
import { type ConnectOptions, exchange, open } from "./connect.ts";
import { parseTarget } from "./public-url.ts";

/** 25 MiB: the largest picture that a task may bring. */
const SIZE_BYTES_MAX = 25 * 1024 * 1024;
const REDIRECTS_MAX = 3;
const HEADERS = { accept: "*/*", "accept-encoding": "identity", "user-agent": "millrace" } as const;

export interface FetchedBytes {
  readonly bytes: Uint8Array;
  /** As the server declared it; not to be trusted. Empty when it declared none. */
  readonly contentType: string;
  /** The address that was read in the end, after redirects. */
  readonly url: string;
}

export interface FetchOptions extends ConnectOptions {
  /** Hosts that may be private: FETCH_ALLOW_HOSTS. */
  readonly allowHosts: readonly string[];
  /** Default 25 MiB. */
  readonly sizeBytesMax?: number;
  /** Its abort ends the fetch, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Of all hops and the content. Default 10,000. */
  readonly totalMs?: number;
}

/**
 * The content behind `url`: one GET, up to three redirects, status 200, without content encoding. Throws
 * `fetch_blocked` (no public address, on any hop), `fetch_too_large`, `fetch_status` (an error status, too many
 * redirects, an encoded answer), and, worth another attempt, `fetch_timeout` and `fetch_failed` (no such name, no
 * connection, a broken answer, 429 or 5xx). Leaves no socket or timer behind, whatever happens.
 */
export const fetchInput = (url: string, options: FetchOptions): Promise<FetchedBytes> =>
  exchange(options.signal, options.totalMs ?? 10_000, "The URL took too long to answer in full", (abort) =>
    follow(url, options, abort),
  );

async function follow(url: string, options: FetchOptions, abort: AbortController): Promise<FetchedBytes> {
  let target = parseTarget(url, options.allowHosts);
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
    const response = await open(target, { method: "GET", headers: HEADERS }, options, abort);
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
