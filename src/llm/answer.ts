// Makes an LlmAnswer of a try that has begun: its body, pulled by who reads it, and its end, told once. The callers
// (local-caller.ts, src/live/caller.ts) hand it out. It reads only when it is read, and frees everything on each way out.
import { AppError, asAppError } from "../errors.ts";
import type { Opened } from "./attempts.ts";
import type { BodyRead } from "./http1/body-queue.ts";
import type { AnswerBody, LlmAnswer, LlmEnd } from "./llm.ts";
import type { TryAnswer } from "./try.ts";
import type { Watchdog, Watched } from "./watchdog.ts";

export interface AnswerOptions {
  /** Of the request, and nothing else of it: its body must not stay in memory for as long as its answer. */
  readonly signal: AbortSignal;
  readonly opened: Opened;
  /** From the call to the first content. */
  readonly firstTokenMs: number;
  readonly watchdog: Watchdog;
  /** By the watchdog's clock: an answer that nobody reads, nor cancels, ends then. */
  readonly deadlineMs: number;
  /** Told before `ended` resolves. */
  readonly onEnd: (end: LlmEnd) => void;
}

export function answerOf(options: AnswerOptions): LlmAnswer {
  const { target, answer } = options.opened;
  const body = new Body(options);
  return { target, status: answer.status, contentType: answer.contentType, body, ended: body.ended };
}

const END: BodyRead = { done: true };

class Body implements AnswerBody {
  readonly ended: Promise<LlmEnd>;
  readonly #options: AnswerOptions;
  readonly #answer: TryAnswer;
  readonly #watched: Watched;
  readonly #resolve: (end: LlmEnd) => void;
  #open = true;
  #failure: { readonly reason: unknown } | null = null;

  constructor(options: AnswerOptions) {
    const { signal, watchdog, deadlineMs, opened } = options;
    const { promise, resolve } = Promise.withResolvers<LlmEnd>();
    this.#options = options;
    this.#answer = opened.answer;
    this.ended = promise;
    this.#resolve = resolve;
    this.#watched = watchdog.watch(deadlineMs, this.#onLate);
    signal.addEventListener("abort", this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  getReader(): this {
    return this;
  }

  async read(): Promise<BodyRead> {
    if (!this.#open) return this.#over();
    try {
      const value = await this.#answer.read();
      if (!this.#open) return this.#over();
      if (value !== null) return { done: false, value };
      this.#close(this.#answer.status === 200 ? "finished" : "refused", null);
      return END;
    } catch (error) {
      if (this.#open) this.#fail(asAppError(error) ?? brokenOff(error));
      return this.#over();
    }
  }

  async cancel(): Promise<void> {
    this.#leave();
  }

  /** What a reader is told once nothing comes any more. */
  #over(): BodyRead {
    if (this.#failure !== null) throw this.#failure.reason;
    return END;
  }

  readonly #onLate = (): void => this.#fail(new AppError("upstream_timeout", "The answer took too long."));

  readonly #onAbort = (): void => {
    this.#failure = { reason: this.#options.signal.reason };
    this.#leave();
  };

  /** SDKs leave as soon as they have read the last event: that is no answer that was given up. */
  #leave(): void {
    const isComplete = this.#answer.isComplete && this.#answer.status === 200;
    this.#close(isComplete ? "finished" : "cancelled", null);
  }

  #fail(error: AppError): void {
    this.#failure = { reason: error };
    this.#close("failed", error);
  }

  /** Frees everything, once. A read that waits is settled by the answer. */
  #close(outcome: LlmEnd["outcome"], error: AppError | null): void {
    if (!this.#open) return;
    this.#open = false;
    const { signal, firstTokenMs, onEnd } = this.#options;
    const answer = this.#answer;
    this.#watched.stop();
    signal.removeEventListener("abort", this.#onAbort);
    if (outcome === "cancelled" || outcome === "failed") answer.cancel();
    const end: LlmEnd = {
      outcome,
      usage: answer.usage(),
      error,
      firstTokenMs: answer.status === 200 ? firstTokenMs : null,
    };
    onEnd(end);
    this.#resolve(end);
  }
}

const brokenOff = (cause: unknown): AppError =>
  new AppError("upstream_failed", "The model server broke off.", { cause });
