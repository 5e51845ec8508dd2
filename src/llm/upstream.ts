// One try at one model server, over HTTP: sends the encoded request, and answers when the first content is there (of a
// stream) or all of it (else). In actors alone: they know the servers' addresses and keys. The openai package's client
// would send the same bytes at a multiple of the cost (docs/decisions).
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ProviderAccess } from "../models/llm-catalogue.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import { AnswerRoom } from "./answer-room.ts";
import { ChunkReader } from "./chunk.ts";
import type { EncodedBody } from "./encode.ts";
import { Exchange } from "./exchange.ts";
import { openMedia } from "./media-answer.ts";
import { isMedia } from "./media-events.ts";
import { createPost, type ServerResponse } from "./post.ts";
import { openStream } from "./stream-answer.ts";
import { type TryAnswer, TryFailure } from "./try.ts";
import type { Watchdog } from "./watchdog.ts";
import { openWhole, readUpTo, wholeAnswer } from "./whole-answer.ts";

export interface UpstreamRequest {
  readonly provider: ProviderAccess;
  readonly endpoint: LlmEndpoint;
  readonly body: EncodedBody;
  readonly stream: boolean;
  readonly streamUsage: boolean;
  readonly requestId: string;
  /** Tokens of the prompt, where the server does not count them. */
  readonly promptEstimate: number;
  readonly signal: AbortSignal;
  /** By the watchdog's clock. */
  readonly deadlineMs: number;
}

/** An error's body: longer ones help nobody. */
const ERROR_BYTES_MAX = 64 * 1024;
/** Shorter values of a provider's key and headers are words that any message may hold. */
const SECRET_CHARS_MIN = 8;
const NOT_READY = "The model server is not ready.";
const RETRY_AFTER_S_MAX = 60;

export interface Upstream {
  /** Throws TryFailure, or the signal's reason. */
  open(request: UpstreamRequest): Promise<TryAnswer>;
}

export function createUpstream(watchdog: Watchdog, log: Log): Upstream {
  const room = new AnswerRoom();
  const post = createPost(watchdog);
  return {
    async open(request) {
      const { provider, endpoint, body, signal, deadlineMs, requestId } = request;
      const limits = provider.timeouts;
      // What is no stream is silent until it is done; of sound and pictures a server may know no stream.
      const thinkingMs = request.stream && !isMedia(endpoint) ? limits.firstTokenMs : limits.totalMs;
      const url = provider.baseUrl;
      const exchange = new Exchange({ signal, deadlineMs, limits, thinkingMs, watchdog, requestId, url, log });
      try {
        const response = await post(exchange, { provider, endpoint, body, requestId });
        if (response.status === 200) {
          if (isMedia(endpoint)) return await openMedia(response, exchange, request, room.hold());
          return request.stream
            ? await openStream(response, exchange, request, { reader: new ChunkReader() })
            : await openWhole(response, exchange, endpoint, room.hold());
        }
        return await refusal(response, exchange, provider);
      } catch (error) {
        const reason = error instanceof TryFailure ? error : exchange.reason(error);
        exchange.close();
        throw reason instanceof AppError && !signal.aborted ? new TryFailure("failed", reason) : reason;
      }
    },
  };
}

/** An answer that blames the request; throws a TryFailure for one that blames the server. */
async function refusal(response: ServerResponse, exchange: Exchange, provider: ProviderAccess): Promise<TryAnswer> {
  const { status } = response;
  exchange.expectWithin(exchange.limits.betweenTokensMs);
  const bytes = withoutSecrets(await readUpTo(response, ERROR_BYTES_MAX), provider);
  exchange.done();
  const failure = failureOf(response, bytes);
  if (failure === null) {
    return wholeAnswer({ status, contentType: response.headers.get("content-type") ?? "application/json", bytes });
  }
  // Of its words nothing is kept, as they may repeat the client's; a full server would fill the log.
  if (failure.outcome !== "overloaded") exchange.warn({ status, outcome: failure.outcome }, "the model server refuses");
  throw failure;
}

/** Some servers and proxies say back what they were sent: a client must not read our key there. */
function withoutSecrets(body: Uint8Array, { apiKey, headers }: ProviderAccess): Uint8Array {
  let text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("latin1"); // byte for byte
  for (const secret of [apiKey ?? "", ...Object.values(headers)]) {
    if (secret.length >= SECRET_CHARS_MIN) text = text.replaceAll(secret, "(secret)");
  }
  return Buffer.from(text, "latin1");
}

function failureOf(response: ServerResponse, body: Uint8Array): TryFailure | null {
  const { status } = response;
  if (status === 401 || status === 402 || status === 403) {
    return new TryFailure("unauthorized", new AppError("model_unavailable", "The model server refuses access."));
  }
  if (isOverload(response, body)) {
    const retryAfterS = retryAfterOf(response);
    return new TryFailure("overloaded", new AppError("model_overloaded", "The model has no room.", { retryAfterS }));
  }
  if (status >= 400 && status < 500 && status !== 408) return null;
  // It loads, or is about to end (llama.cpp, SGLang, a proxy in front): the request was not begun.
  if (status === 503) return new TryFailure("failed", new AppError("model_unavailable", NOT_READY, { retryAfterS: 1 }));
  const error = new AppError("upstream_failed", "The model server failed.", { retryAfterS: 1 });
  return new TryFailure("failed", error, blames.has(status) ? "server" : "unclear");
}

/** Said by proxies whose server is gone or silent: whatever the request was. */
const blames: ReadonlySet<number> = new Set([408, 502, 504]);

/** Too many requests, or a full server: not one that is ill. */
const isOverload = (response: ServerResponse, body: Uint8Array): boolean =>
  response.status === 429 ||
  response.status === 529 ||
  (response.status === 503 &&
    (response.headers.has("retry-after") ||
      /overload|capacity|too many|queue|\bfull\b/i.test(Buffer.from(body.subarray(0, 4_096)).toString("latin1"))));

function retryAfterOf(response: ServerResponse): number {
  const asked = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(asked) ? Math.min(RETRY_AFTER_S_MAX, Math.max(1, Math.ceil(asked))) : 1;
}
