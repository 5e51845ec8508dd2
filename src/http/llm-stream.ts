// A model's answer as a server-sent event stream, as OpenAI's SDKs read it. llm.ts opens it; the client's socket drives
// it: a chunk is read from the server only when the last one has been taken. It must never end in silence: after the
// head is sent, a failure is an event of its own and `[DONE]`.
//
//              pull              chunk, beat
//   IDLE ────────────► WAITING ───────────────► IDLE
//     │                   │ end of the answer ──────────────────► CLOSED (cleanly)
//     │                   │ it failed, or the gateway stops ────► CLOSED (error event, [DONE])
//     │ not pulled for stallMs ─────────────────────────────────► CLOSED (connection reset)
//     └─ client left ───────────────────────────────────────────► CLOSED
import { asAppError, type ErrorCode, messageOf } from "../errors.ts";
import type { LlmAnswer } from "../llm/llm.ts";
import type { Log } from "../log.ts";
import type { Hold } from "./holds.ts";
import { refusalOf, shownRefusal } from "./llm-answer.ts";
import { type OpenAiError, openAiError } from "./openai-error.ts";
import { type KeyedCall, reply } from "./route.ts";
import { quotaHeaders } from "./usage.ts";

export interface LlmStreamLimits {
  /** How long the head waits for the first content: until then a failure has a status of its own. */
  readonly headMs: number;
  /** Silence after which a comment is sent; proxies cut at 60 s, mobile networks earlier. */
  readonly beatMs: number;
  /** A client that takes nothing for so long is cut off. */
  readonly stallMs: number;
}

export const llmStreamLimits: LlmStreamLimits = { headMs: 8_000, beatMs: 10_000, stallMs: 60_000 };

/** How exactly beats and stalls are timed. One timer a stream, none a chunk. */
const TICK_MS_MAX = 1_000;

/** A client's words for it: another gateway, or this one in a moment. */
export const STOPPING = "This gateway stops: send the request again.";

const encoder = new TextEncoder();
const beat = encoder.encode(": beat\n\n");
/** x-accel-buffering: nginx would otherwise keep tokens until a buffer is full. */
const streamHeaders = { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no" } as const;

const errorEvent = (error: OpenAiError): Uint8Array =>
  encoder.encode(`data: ${JSON.stringify({ error })}\n\ndata: [DONE]\n\n`);

/**
 * The response to a call that was begun with `calling`; it owns `hold` from here on. Throws what the call throws within
 * `headMs`; what it refuses within that time is answered with its status.
 */
export async function llmStream(
  call: KeyedCall,
  calling: Promise<LlmAnswer>,
  hold: Hold,
  log: Log,
  limits: LlmStreamLimits,
): Promise<Response> {
  const early = await settledWithin(calling, limits.headMs);
  if (early && early.status !== 200) return refusalOf(call, early);
  const begun = early && (await beginOf(early));
  const pump = new LlmPump(begun ?? calling, hold, log.child({ request_id: call.requestId }), limits);
  const headers = { ...streamHeaders, ...quotaHeaders(early?.quota) };
  return reply(call, 200, "text/event-stream", new ReadableStream(pump, { highWaterMark: 0 }), headers);
}

/** What `work` resolves to, or null after `ms`. */
async function settledWithin<T>(work: Promise<T>, ms: number): Promise<T | null> {
  const { promise: late, resolve } = Promise.withResolvers<null>();
  const timer = setTimeout(resolve, ms, null);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

interface Begun {
  readonly reader: Reader;
  readonly first: Uint8Array | undefined;
}

/** The first content is there: read before the head is sent, it leaves with it, and a failure still has a status. */
async function beginOf({ body }: LlmAnswer): Promise<Begun> {
  const reader: Reader = body.getReader();
  return { reader, first: (await reader.read()).value };
}

/** What is used of a stream's reader. */
interface Reader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}
type Controller = ReadableStreamDefaultController<Uint8Array>;

class LlmPump {
  readonly #hold: Hold;
  readonly #log: Log;
  readonly #limits: LlmStreamLimits;
  readonly #answer: Begun | Promise<LlmAnswer>;
  #reader: Reader | null = null;
  #controller: Controller | null = null;
  #open = true;
  /** The client has room, and the server has nothing yet. */
  #waiting = false;
  #sentMs = performance.now();
  #ticks: ReturnType<typeof setInterval> | undefined;

  constructor(answer: Begun | Promise<LlmAnswer>, hold: Hold, log: Log, limits: LlmStreamLimits) {
    this.#answer = answer;
    this.#hold = hold;
    this.#log = log;
    this.#limits = limits;
  }

  start(controller: Controller): void {
    this.#controller = controller;
    const { beatMs, stallMs } = this.#limits;
    this.#ticks = setInterval(this.#tick, Math.min(TICK_MS_MAX, beatMs, stallMs));
    this.#hold.signal.addEventListener("abort", this.#stopped, { once: true });
    if (this.#answer instanceof Promise) controller.enqueue(beat);
    else if (this.#answer.first) controller.enqueue(this.#answer.first);
    if (this.#hold.signal.aborted) this.#stopped();
  }

  async pull(controller: Controller): Promise<void> {
    this.#waiting = true;
    try {
      this.#reader ??= await this.#begin();
      if (!this.#open || this.#reader === null) return this.#drop();
      const { done, value } = await this.#reader.read();
      if (!this.#open) return;
      if (done || !value) return this.#end(null);
      this.#sentMs = performance.now();
      controller.enqueue(value);
    } catch (error) {
      this.#end(this.#shown(error));
    } finally {
      this.#waiting = false;
    }
  }

  cancel(): void {
    this.#close();
  }

  /** Null where the server refused the request after the head was sent. Throws what the call throws. */
  async #begin(): Promise<Reader | null> {
    const answer = await this.#answer;
    if ("reader" in answer) return answer.reader;
    if (answer.status === 200) return answer.body.getReader();
    this.#end(shownRefusal(answer.status, await new Response(answer.body).text()));
    return null;
  }

  /** Tells the server that nobody reads on. */
  #drop(): void {
    const dropping = this.#reader
      ? this.#reader.cancel()
      : Promise.resolve(this.#answer).then((answer) =>
          "reader" in answer ? answer.reader.cancel() : answer.body.cancel(),
        );
    dropping.catch(() => {}); // its client is gone, or has been told
  }

  readonly #tick = (): void => {
    const silentMs = performance.now() - this.#sentMs;
    // What the client has not taken yet stands in the queue.
    const isRead = this.#waiting && this.#controller?.desiredSize === 0;
    if (!isRead && silentMs >= this.#limits.stallMs) {
      if (this.#close()) this.#controller?.error(new Error("the client reads nothing"));
    } else if (isRead && silentMs >= this.#limits.beatMs) {
      this.#sentMs = performance.now();
      this.#controller?.enqueue(beat);
    }
  };

  readonly #stopped = (): void => {
    this.#end(openAiError("not_ready", STOPPING).error);
  };

  #shown(error: unknown): OpenAiError {
    const known = asAppError(error);
    const code: ErrorCode = known?.code ?? "internal";
    if (this.#open) this.#log.warn({ code, error: messageOf(error) }, "llm.stream.failed");
    const detail = known && code !== "internal" ? known.message : "Something failed on our side.";
    return openAiError(code, detail, known?.fields).error;
  }

  /** Ends the stream in good order, with an event for what went wrong. */
  #end(error: OpenAiError | null): void {
    if (!this.#close()) return;
    if (error) this.#controller?.enqueue(errorEvent(error));
    this.#controller?.close();
  }

  /** Frees everything, once. False when that has been done before. */
  #close(): boolean {
    if (!this.#open) return false;
    this.#open = false;
    clearInterval(this.#ticks);
    this.#hold.signal.removeEventListener("abort", this.#stopped);
    this.#hold.abort();
    this.#hold.release();
    this.#drop();
    return true;
  }
}
