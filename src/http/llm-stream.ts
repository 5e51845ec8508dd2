// A model's answer as a stream: server-sent events, as OpenAI's SDKs read them, or sound. llm.ts opens it; the client's
// socket drives it: a chunk is read from the server only when the last one has been taken. It must never end in silence:
// after the head is sent, a failure is an event of its own, or resets the connection where there are no events.
//
//              pull              chunk, beat
//   IDLE ────────────► WAITING ───────────────► IDLE
//     │                   │ end of the answer ──────────────────► CLOSED (cleanly)
//     │                   │ it failed, or the gateway stops ────► CLOSED (error event; of sound: connection reset)
//     │ not pulled for stallMs ─────────────────────────────────► CLOSED (connection reset)
//     └─ client left ───────────────────────────────────────────► CLOSED
import { asAppError, type ErrorCode, messageOf } from "../errors.ts";
import { textOf } from "../llm/answer-body.ts";
import type { AnswerBody, LlmAnswer } from "../llm/llm.ts";
import type { Log } from "../log.ts";
import type { Hold } from "./holds.ts";
import { mediaTypeOf, refusalOf, shownRefusal } from "./llm-answer.ts";
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

const LF = 10;
const encoder = new TextEncoder();
const beat = encoder.encode(": beat\n\n");
/** nginx would otherwise keep tokens until a buffer is full. */
const unbuffered = { "x-accel-buffering": "no" } as const;
const streamHeaders = { "cache-control": "no-cache, no-transform", ...unbuffered } as const;

/** What is sent beside the answer's own bytes. */
export interface StreamForm {
  /** In silence; null where nothing may stand between the bytes. */
  readonly beat: Uint8Array | null;
  /** The end of an answer that has failed; null: the connection is reset, as nothing else can say it. */
  readonly failed: ((error: OpenAiError) => string) | null;
}

const errorEvent = (error: OpenAiError): string => `data: ${JSON.stringify({ error })}\n\n`;
/** Chats and completions. */
export const tokenEvents: StreamForm = { beat, failed: (error) => `${errorEvent(error)}data: [DONE]\n\n` };
/** Transcripts, speech and pictures: OpenAI ends these with an event of their own, and no `[DONE]`. */
export const mediaEvents: StreamForm = { beat, failed: errorEvent };
/** Speech as bytes. */
export const soundBytes: StreamForm = { beat: null, failed: null };

/**
 * The response to a call that was begun with `calling`; it owns `hold` from here on. Throws what the call throws within
 * `headMs`; what it refuses within that time is answered with its status. The head of sound waits for its first bytes.
 */
export async function llmStream(
  call: KeyedCall,
  calling: Promise<LlmAnswer>,
  hold: Hold,
  log: Log,
  limits: LlmStreamLimits,
  form: StreamForm,
): Promise<Response> {
  const early = form.beat ? await settledWithin(calling, limits.headMs) : await calling;
  if (early && early.status !== 200) return refusalOf(call, early);
  const begun = early && (await beginOf(early));
  const pump = new LlmPump(begun ?? calling, hold, log.child({ request_id: call.requestId }), limits, form);
  const body = new ReadableStream(pump, { highWaterMark: 0 });
  const quota = quotaHeaders(early?.quota);
  if (form.beat) return reply(call, 200, "text/event-stream", body, { ...streamHeaders, ...quota });
  return reply(call, 200, mediaTypeOf(early?.contentType ?? ""), body, { ...unbuffered, ...quota });
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
  const reader = body.getReader();
  return { reader, first: (await reader.read()).value };
}

type Reader = ReturnType<AnswerBody["getReader"]>;
type Controller = ReadableStreamDefaultController<Uint8Array>;

class LlmPump {
  readonly #hold: Hold;
  readonly #log: Log;
  readonly #limits: LlmStreamLimits;
  readonly #answer: Begun | Promise<LlmAnswer>;
  #reader: Reader | null = null;
  #controller: Controller | null = null;
  readonly #form: StreamForm;
  #open = true;
  /** The client has all of the last event that was begun. */
  #isWhole = true;
  /** The client has room, and the server has nothing yet. */
  #waiting = false;
  #sentMs = performance.now();
  #ticks: ReturnType<typeof setInterval> | undefined;

  constructor(answer: Begun | Promise<LlmAnswer>, hold: Hold, log: Log, limits: LlmStreamLimits, form: StreamForm) {
    this.#form = form;
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
    else if (this.#answer.first) this.#send(this.#answer.first);
    if (this.#hold.signal.aborted) this.#stopped();
  }

  async pull(): Promise<void> {
    this.#waiting = true;
    try {
      this.#reader ??= await this.#begin();
      if (!this.#open || this.#reader === null) return this.#drop();
      const { done, value } = await this.#reader.read();
      if (!this.#open) return;
      if (done || !value) return this.#end(null);
      this.#sentMs = performance.now();
      this.#send(value);
    } catch (error) {
      this.#end(this.#shown(error));
    } finally {
      this.#waiting = false;
    }
  }

  cancel(): void {
    this.#close();
  }

  #send(bytes: Uint8Array): void {
    this.#isWhole = bytes.at(-1) === LF && bytes.at(-2) === LF;
    this.#controller?.enqueue(bytes);
  }

  /** Null where the server refused the request after the head was sent. Throws what the call throws. */
  async #begin(): Promise<Reader | null> {
    const answer = await this.#answer;
    if ("reader" in answer) return answer.reader;
    if (answer.status === 200) return answer.body.getReader();
    this.#end(shownRefusal(answer.status, await textOf(answer.body)));
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
    } else if (isRead && this.#form.beat && this.#isWhole && silentMs >= this.#limits.beatMs) {
      this.#sentMs = performance.now();
      this.#controller?.enqueue(this.#form.beat);
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

  /** Ends the stream in good order, with an event for what went wrong; sound that went wrong ends in a reset. */
  #end(error: OpenAiError | null): void {
    if (!this.#close()) return;
    const { failed } = this.#form;
    if (error && !failed) return this.#controller?.error(); // with an error Bun would print it; it is in the log
    // An event that was broken off stays one that nobody can read.
    if (error && failed) this.#controller?.enqueue(encoder.encode((this.#isWhole ? "" : "\n\n") + failed(error)));
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
