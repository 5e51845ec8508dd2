// One request at a model server's socket, with its time limits: whatever ends it (the caller, a limit, the answer's end)
// closes the socket at once. upstream.ts opens it, stream-answer.ts and whole-answer.ts read by it.
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ProviderTimeouts } from "../models/models-file.ts";
import type { Watchdog, Watched } from "./watchdog.ts";

export class Exchange {
  readonly limits: ProviderTimeouts;
  readonly #controller = new AbortController();
  readonly #deadlineMs: number;
  readonly #watchdog: Watchdog;
  readonly #watched: Watched;
  readonly #caller: AbortSignal;
  readonly #log: Log;
  #late: AppError | null = null;

  constructor(caller: AbortSignal, deadlineMs: number, limits: ProviderTimeouts, watchdog: Watchdog, log: Log) {
    this.limits = limits;
    this.#watchdog = watchdog;
    this.#caller = caller;
    this.#log = log;
    this.#deadlineMs = Math.min(deadlineMs, watchdog.now() + limits.totalMs);
    const firstMs = Math.min(this.#deadlineMs, watchdog.now() + limits.firstTokenMs);
    this.#watched = watchdog.watch(firstMs, () => this.fail("upstream_timeout", "the model server was too slow"));
    caller.addEventListener("abort", this.close, { once: true });
    if (caller.aborted) this.close();
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

  /** Ends it, and says why to whoever waits. */
  fail(code: "upstream_failed" | "upstream_timeout", message: string): void {
    this.#late ??= new AppError(code, message, { retryAfterS: 1 });
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
    this.#log.warn({ error: messageOf(error) }, "model server failed");
    return new AppError("upstream_failed", "the model server broke off", { cause: error, retryAfterS: 1 });
  }
}
