// Sends one POST to a URL given by a user: webhooks. Like fetch-input.ts it connects only to addresses that connect.ts
// has checked; a redirect is an answer and is not followed. Of what the receiver answers it keeps the status and
// Retry-After, never a text.
import type { IncomingMessage } from "node:http";
import { AppError } from "../errors.ts";
import { type ConnectOptions, exchange, open } from "./connect.ts";
import { type CallbackRules, callbackProblem, parseTarget } from "./public-url.ts";

/** Read so that the receiver can finish its sentence; what goes beyond is cut off. */
const ANSWER_BYTES_MAX = 4 * 1024;
const ANSWER_MS_MAX = 1_000;

export interface PostOptions extends ConnectOptions, CallbackRules {
  /** Of all of it, to the answer's head. Default 15,000. */
  readonly totalMs?: number;
  /** Its abort ends the request, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface Answered {
  readonly status: number;
  /** As it was sent; null for none. */
  readonly retryAfter: string | null;
}

/**
 * The answer's head, whatever its status. Throws `fetch_blocked` (no public address, or plain http where that is
 * refused), `fetch_timeout`, and `fetch_failed` (no such name, no connection, a broken answer). Leaves no socket or
 * timer behind.
 */
export async function post(
  url: string,
  headers: Readonly<Record<string, string>>,
  body: string,
  options: PostOptions,
): Promise<Answered> {
  const refused = callbackProblem(url, options);
  if (refused) throw new AppError("fetch_blocked", `The URL ${refused}`);
  const target = parseTarget(url, options.allowHosts);
  const totalMs = options.totalMs ?? 15_000;
  return exchange(options.signal, totalMs, "The receiver took too long to answer", async (abort) => {
    const outgoing = { method: "POST", headers: { ...headers, "content-length": sizeOf(body) }, body } as const;
    const response = await open(target, outgoing, { firstByteMs: totalMs, ...options }, abort);
    await skim(response);
    return { status: response.statusCode ?? 0, retryAfter: response.headers["retry-after"] ?? null };
  });
}

const sizeOf = (body: string): string => String(Buffer.byteLength(body));

/** Takes the answer's body in, within limits; how it ends changes nothing, the status is known. */
function skim(response: IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    let sizeBytes = 0;
    const done = (): void => {
      clearTimeout(timer);
      response.destroy();
      resolve();
    };
    const timer = setTimeout(done, ANSWER_MS_MAX);
    response.on("data", (chunk: Uint8Array) => {
      sizeBytes += chunk.byteLength;
      if (sizeBytes >= ANSWER_BYTES_MAX) done();
    });
    response.once("close", done);
    response.on("error", done);
    response.once("end", done);
  });
}
