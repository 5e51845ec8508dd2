// Makes an LlmAnswer of a try that has begun: its body as a stream that pulls, and its end, told once. The callers
// (local-caller.ts, src/live/caller.ts) hand it out. It reads only when it is read, and frees everything on each way out.
import { AppError, asAppError } from "../errors.ts";
import type { Opened } from "./attempts.ts";
import type { LlmAnswer, LlmEnd } from "./llm.ts";
import type { Watchdog } from "./watchdog.ts";

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
  const { signal, opened, watchdog, deadlineMs } = options;
  const { target, answer } = opened;
  const { promise: ended, resolve } = Promise.withResolvers<LlmEnd>();
  let open = true;
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  const close = (outcome: LlmEnd["outcome"], error: AppError | null): boolean => {
    if (!open) return false;
    open = false;
    watched.stop();
    signal.removeEventListener("abort", onAbort);
    if (outcome === "cancelled" || outcome === "failed") answer.cancel();
    const firstTokenMs = answer.status === 200 ? options.firstTokenMs : null;
    const end: LlmEnd = { outcome, usage: answer.usage(), error, firstTokenMs };
    options.onEnd(end);
    resolve(end);
    return true;
  };
  const fail = (error: AppError): void => {
    if (close("failed", error)) controller?.error(error);
  };
  /** SDKs leave as soon as they have read the last event: that is no answer that was given up. */
  const left = (): boolean => close(answer.isComplete && answer.status === 200 ? "finished" : "cancelled", null);
  const onAbort = (): void => {
    if (left()) controller?.error(signal.reason);
  };
  const watched = watchdog.watch(deadlineMs, () => fail(new AppError("upstream_timeout", "The answer took too long.")));
  signal.addEventListener("abort", onAbort, { once: true });
  const body = new ReadableStream<Uint8Array>(
    {
      start(own) {
        controller = own;
      },
      async pull(own) {
        try {
          const bytes = await answer.read();
          if (!open) return;
          if (bytes !== null) return own.enqueue(bytes);
          close(answer.status === 200 ? "finished" : "refused", null);
          own.close();
        } catch (error) {
          fail(asAppError(error) ?? new AppError("upstream_failed", "The model server broke off.", { cause: error }));
        }
      },
      cancel() {
        left();
      },
    },
    { highWaterMark: 0 },
  );
  if (signal.aborted) onAbort();
  return { target, status: answer.status, contentType: answer.contentType, body, ended };
}
