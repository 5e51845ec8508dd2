// One request at a model server's socket, with its time limits: whatever ends it (the caller, a limit, the answer's end)
// closes the socket at once. upstream.ts opens it, stream-answer.ts and whole-answer.ts read by it.
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ProviderTimeouts } from "../models/models-file.ts";
import type { Watchdog, Watched } from "./watchdog.ts";

export interface ExchangeOptions {
  /** The caller's: he wants no answer any more. */
  readonly signal: AbortSignal;
  /** By the watchdog's clock. */
  readonly deadlineMs: number;
  readonly limits: ProviderTimeouts;
  /** How long the server may think before it says anything. */
  readonly thinkingMs: number;
  readonly watchdog: Watchdog;
  readonly requestId: string;
  /** Where the server is; for the log alone. */
  readonly url: string;
  readonly log: Log;
}

export const UNREACHED = "The model server cannot be reached.";
/** There is nobody at its address: the request was not sent. */
const unreachedCodes: ReadonlySet<unknown> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
]);
const isUnreached = (error: unknown): boolean =>
  error instanceof Error && "code" in error && unreachedCodes.has(error.code);

export class Exchange {
  readonly limits: ProviderTimeouts;
  readonly #controller = new AbortController();
  readonly #deadlineMs: number;
  readonly #watchdog: Watchdog;
  readonly #watched: Watched;
  readonly #caller: AbortSignal;
  readonly #log: Log;
  readonly #requestId: string;
  readonly #url: string;
  #late: AppError | null = null;

  constructor({ signal, deadlineMs, limits, thinkingMs, watchdog, requestId, url, log }: ExchangeOptions) {
    this.limits = limits;
    this.#watchdog = watchdog;
    this.#caller = signal;
    this.#requestId = requestId;
    this.#url = url;
    this.#log = log;
    this.#deadlineMs = Math.min(deadlineMs, watchdog.now() + limits.totalMs);
    const firstMs = Math.min(this.#deadlineMs, watchdog.now() + thinkingMs);
    this.#watched = watchdog.watch(firstMs, () => this.fail("upstream_timeout", "The model server was too slow."));
    signal.addEventListener("abort", this.close, { once: true });
    if (signal.aborted) this.close();
  }

  /** For the request itself. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The next bytes must come within `ms`. */
  expectWithin(ms: number): void {
    this.#watched.deadlineMs = Math.min(this.#deadlineMs, this.#watchdog.now() + ms);
  }

  /** Nobody waits for bytes now. */
  rest(): void {
    this.#watched.deadlineMs = this.#deadlineMs;
  }

  /** For the log of the process. */
  warn(fields: object, message: string): void {
    this.#log.warn({ request_id: this.#requestId, url: this.#url, ...fields }, message);
  }

  /** Ends it, and says why to whoever waits. */
  fail(code: "upstream_failed" | "upstream_timeout" | "model_unavailable", message: string): void {
    this.#late ??= new AppError(code, message, { retryAfterS: 1 });
    this.warn({ code }, message);
    this.close();
  }

  /** Closes the socket, unless the answer has been read to its end. Idempotent. */
  readonly close = (): void => {
    this.#watched.stop();
    this.#caller.removeEventListener("abort", this.close);
    this.#controller.abort();
  };

  /** The answer has been read to its end: its connection may serve another. */
  done(): void {
    this.#watched.stop();
    this.#caller.removeEventListener("abort", this.close);
  }

  /** What went wrong, for the caller: his own abort, the limit that ran out, or the server; never its words or address. */
  reason(error: unknown): unknown {
    if (this.#late) return this.#late;
    if (this.#caller.aborted) return this.#caller.reason;
    if (error instanceof AppError) return error;
    const unreached = isUnreached(error);
    // What we closed ourselves breaks off too.
    if (!this.#controller.signal.aborted) {
      const message = unreached ? "the model server cannot be reached" : "the model server broke off";
      this.warn({ error: messageOf(error) }, message);
    }
    if (unreached) return new AppError("model_unavailable", UNREACHED, { cause: error, retryAfterS: 1 });
    return new AppError("upstream_failed", "The model server broke off.", { cause: error, retryAfterS: 1 });
  }
}
