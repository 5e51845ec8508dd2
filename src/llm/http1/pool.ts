// Requests to model servers over plain HTTP, on connections that are used again. upstream.ts asks by it where a server's
// address begins with `http:`; what is encrypted, or beyond a proxy, goes by fetch. It sends POST and nothing else.
import { Connection, type HttpResponse } from "./connection.ts";

/** Shorter than the time after which servers close a connection that rests: uvicorn's, and so vLLM's, is 5 s. */
const REST_S = 4;
/** A connection that breaks later than so was not stale: the server has seen the request. */
const STALE_MS_MAX = 1_000;
/** For each server, of connections that rest. */
const RESTING_MAX = 512;

export interface HttpRequest {
  readonly url: URL;
  /** Where the body ends is not theirs to say; a `host` replaces the address's. Throws a TypeError for what is no header. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Closes the connection, until the response has been read. */
  readonly signal: AbortSignal;
  /** Called where the server has not taken a connection for `connectMs`; it is to abort `signal`. */
  readonly connectMs: number;
  readonly onLate: () => void;
}

export class HttpPool {
  readonly #resting = new Map<string, Connection[]>();

  /** Rejects where the server cannot be reached or answers what is no HTTP, and with the signal's reason. */
  async post(request: HttpRequest): Promise<HttpResponse> {
    const { url, signal } = request;
    signal.throwIfAborted();
    const message = encode(request);
    const resting = this.#resting.get(url.host)?.pop();
    if (resting !== undefined) {
      const sentMs = performance.now();
      try {
        return await resting.request(message, signal);
      } catch (error) {
        // Closed by the server in the moment before, so that it has not seen the request: then another will do.
        if (resting.heard || signal.aborted || performance.now() - sentMs > STALE_MS_MAX) throw error;
      }
    }
    const connection = await this.#open(request);
    return connection.request(message, signal);
  }

  async #open({ url, signal, connectMs, onLate }: HttpRequest): Promise<Connection> {
    const { host, hostname, port } = url;
    const events = {
      onResting: (connection: Connection) => this.#keep(host, connection),
      onClosed: (connection: Connection) => this.#drop(host, connection),
    };
    const late = setTimeout(onLate, connectMs);
    try {
      return await Connection.open(hostname.replace(/^\[|\]$/g, ""), Number(port || 80), events, signal);
    } finally {
      clearTimeout(late);
    }
  }

  #keep(host: string, connection: Connection): void {
    const resting = this.#resting.get(host) ?? [];
    if (resting.length >= RESTING_MAX) return connection.close();
    this.#resting.set(host, resting);
    resting.push(connection);
    connection.rest(REST_S);
  }

  #drop(host: string, connection: Connection): void {
    const resting = this.#resting.get(host) ?? [];
    const at = resting.indexOf(connection);
    if (at >= 0) resting.splice(at, 1);
    if (resting.length === 0) this.#resting.delete(host);
  }
}

/** Head and body in one piece, which leaves in one packet where it is small. */
function encode({ url, headers, body }: HttpRequest): Uint8Array {
  const given = new Headers(headers);
  const host = given.get("host") ?? url.host;
  for (const name of ["host", "content-length", "transfer-encoding"]) given.delete(name);
  const lines = [`POST ${url.pathname}${url.search} HTTP/1.1`, `host: ${host}`, `content-length: ${body.length}`];
  for (const [name, value] of given) lines.push(`${name}: ${value}`);
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), body]);
}
