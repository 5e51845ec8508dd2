// One POST to a model server, and its response: over plain HTTP on connections of our own (http1/), else by fetch, which
// knows TLS and proxies. upstream.ts sends by it and reads the response. It judges nothing that a server says.
import type { ProviderAccess } from "../models/llm-catalogue.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import { isProxied, watchConnect } from "./connect-watch.ts";
import type { EncodedBody } from "./encode.ts";
import { type Exchange, UNREACHED } from "./exchange.ts";
import type { BodyReader } from "./http1/body-queue.ts";
import { HttpPool } from "./http1/pool.ts";
import type { Watchdog } from "./watchdog.ts";

export interface PostOptions {
  readonly provider: ProviderAccess;
  readonly endpoint: LlmEndpoint;
  readonly body: EncodedBody;
  readonly requestId: string;
}

/** As much of a `Response` as an answer needs. */
export interface ServerResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: { getReader(): BodyReader } | null;
}

/** Rejects where there is no response, and when the exchange ends. */
export type Post = (exchange: Exchange, options: PostOptions) => Promise<ServerResponse>;

/** A server that was heard of so recently need not be asked whether it can be reached. */
const HEARD_MS_MAX = 5_000;
/** Of a try, beside the request's id. vLLM runs nothing twice under one id, and clients may choose theirs. */
const ID_CHARS = 8;

export function createPost(watchdog: Watchdog): Post {
  const pool = new HttpPool();
  const heardAtMs = new Map<string, number>();
  return async (exchange, { provider, endpoint, body, requestId }) => {
    const { baseUrl, apiKey } = provider;
    const { signal, limits } = exchange;
    const url = new URL(`${baseUrl}/${endpoint}`);
    const headers = {
      ...provider.headers,
      ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
      "content-type": body.contentType,
      "accept-encoding": "identity",
      "x-request-id": `${requestId}-${crypto.randomUUID().slice(0, ID_CHARS)}`,
    };
    if (url.protocol === "http:" && !isProxied(url, process.env)) {
      const onLate = (): void => exchange.fail("model_unavailable", UNREACHED);
      return await pool.post({ url, headers, body: body.bytes, signal, connectMs: limits.connectMs, onLate });
    }
    const heardMs = watchdog.now() - (heardAtMs.get(baseUrl) ?? Number.NEGATIVE_INFINITY);
    const connected = heardMs > HEARD_MS_MAX ? watchConnect(baseUrl, exchange) : () => {};
    const response = await fetch(url, {
      method: "POST",
      headers,
      body: body.bytes as Uint8Array<ArrayBuffer>,
      // A redirect would carry the key to another origin.
      redirect: "manual",
      signal,
      // Bun's own five minutes would cut what our limits allow.
      timeout: false,
    } as RequestInit);
    connected();
    heardAtMs.set(baseUrl, watchdog.now());
    return response;
  };
}
