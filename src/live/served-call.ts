// One live call at an actor: takes in the body, asks the model server, sends the answer as far as the gateway gave
// credit, and stops reading the server where it did not. server.ts makes one for each `open`.
//
//   receiving ── body whole ──► asking ── head ──► sending ── end ──► over
//       └────────────┴─── failed, cancelled, gateway gone ──┴───────────► over
import { asAppError } from "../errors.ts";
import { type TryAnswer, TryFailure } from "../llm/try.ts";
import type { Upstream } from "../llm/upstream.ts";
import { noUsage } from "../llm/usage-count.ts";
import type { Watchdog, Watched } from "../llm/watchdog.ts";
import type { ProviderAccess } from "../models/llm-catalogue.ts";
import { type Failed, type GatewayTag, type OpenFrame, PART_BYTES_MAX } from "./frames.ts";
import type { Outbox } from "./outbox.ts";

/** The next part of a body comes within a round trip; a gateway that died sends none. */
const PART_MS_MAX = 30_000;
/** A gateway cuts off a client that takes nothing for half as long; one that gives no credit for so long is gone. */
const STALL_MS_MAX = 120_000;
const EMPTY = new Uint8Array();

export interface ServedCallParts {
  readonly open: OpenFrame;
  readonly address: ProviderAccess;
  readonly upstream: Upstream;
  readonly watchdog: Watchdog;
  readonly outbox: Outbox;
  /** Called when its body is held no more. */
  readonly onBodyGone: () => void;
  /** Called once, when nothing of the call is left. */
  readonly onOver: () => void;
}

export class ServedCall {
  readonly #parts: ServedCallParts;
  readonly #controller = new AbortController();
  readonly #deadlineMs: number;
  readonly #watched: Watched;
  #body: Uint8Array;
  #received = 0;
  #number = 0;
  #credit: number;
  #onCredit: (() => void) | null = null;
  #asked = false;
  #hasContent = false;
  #over = false;

  constructor(parts: ServedCallParts) {
    this.#parts = parts;
    this.#credit = parts.open.window;
    this.#body = new Uint8Array(parts.open.bodyBytes);
    this.#deadlineMs = parts.watchdog.now() + parts.open.timeMs;
    const partDeadlineMs = parts.watchdog.now() + PART_MS_MAX;
    this.#watched = parts.watchdog.watch(partDeadlineMs, () => this.cancel());
  }

  part(bytes: Uint8Array): void {
    if (this.#asked || this.#received + bytes.length > this.#body.length) return this.cancel();
    this.#body.set(bytes, this.#received);
    this.#received += bytes.length;
    this.#watched.deadlineMs = this.#parts.watchdog.now() + PART_MS_MAX;
    if (this.#received < this.#body.length) return this.#send("taken", EMPTY);
    this.#watched.stop();
    this.#asked = true;
    void this.#serve();
  }

  credit(bytes: number): void {
    this.#credit += bytes;
    this.#onCredit?.();
  }

  /** Tells the gateway that the call lives, and finds out whether the gateway does. */
  beat(): void {
    this.#send("beat", EMPTY);
  }

  /** Closes the server's socket; nothing is sent any more. Idempotent. */
  cancel(): void {
    if (this.#over) return;
    this.#controller.abort();
    this.#end();
    this.#onCredit?.();
  }

  async #serve(): Promise<void> {
    let answer: TryAnswer | null = null;
    try {
      answer = await this.#ask();
      this.#dropBody();
      const { status, contentType } = answer;
      this.#send("head", jsonBytes({ status, contentType }));
      await this.#pump(answer);
      this.#send("end", jsonBytes(answer.usage()));
    } catch (error) {
      answer?.cancel();
      this.#send("failed", jsonBytes({ ...failedOf(error, answer), ...(answer?.usage() ?? noUsage) }));
    }
    this.#end();
  }

  /** Apart, so that nothing of the request outlives it. */
  #ask(): Promise<TryAnswer> {
    const { open, address, upstream } = this.#parts;
    const body = { contentType: open.contentType, bytes: this.#body };
    const signal = this.#controller.signal;
    return upstream.open({ ...open, provider: address, body, signal, deadlineMs: this.#deadlineMs });
  }

  async #pump(answer: TryAnswer): Promise<void> {
    let counted = 0;
    for (;;) {
      if (this.#credit <= 0) await this.#waitForCredit();
      if (this.#over) return;
      const bytes = await answer.read();
      if (bytes === null || this.#over) return;
      const { completionTokens } = answer.usage();
      this.#sendData(bytes, completionTokens - counted);
      counted = completionTokens;
    }
  }

  #sendData(bytes: Uint8Array, tokens: number): void {
    this.#credit -= bytes.length;
    const isFirst = !this.#hasContent;
    this.#hasContent = true;
    let at = 0;
    for (; bytes.length - at > PART_BYTES_MAX; at += PART_BYTES_MAX) {
      this.#send("piece", bytes.subarray(at, at + PART_BYTES_MAX), 0, isFirst);
    }
    this.#send("data", at === 0 ? bytes : bytes.subarray(at), tokens, isFirst);
  }

  /** Resolves when there is some, or when the call is over. */
  async #waitForCredit(): Promise<void> {
    const { watchdog } = this.#parts;
    const stalled = watchdog.watch(watchdog.now() + STALL_MS_MAX, () => this.cancel());
    while (this.#credit <= 0 && !this.#over) {
      await new Promise<void>((resolve) => {
        this.#onCredit = resolve;
      });
    }
    this.#onCredit = null;
    stalled.stop();
  }

  #send(tag: GatewayTag, bytes: Uint8Array, tokens = 0, isUrgent = true): void {
    const { outbox, open } = this.#parts;
    if (!this.#over) outbox.send(tag, open.call, this.#number++, Math.max(0, tokens), bytes, isUrgent);
  }

  #dropBody(): void {
    if (this.#body.length > 0) this.#parts.onBodyGone();
    this.#body = EMPTY;
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#dropBody();
    this.#watched.stop();
    this.#parts.onOver();
  }
}

const jsonBytes = (value: object): Uint8Array => Buffer.from(JSON.stringify(value));

function failedOf(error: unknown, answer: TryAnswer | null): Omit<Failed, keyof typeof noUsage> {
  const failure = error instanceof TryFailure ? error : null;
  const cause = failure?.error ?? asAppError(error);
  const code = cause?.code;
  return {
    outcome: failure?.outcome ?? "failed",
    blamed: failure?.blamed ?? answer?.blamed ?? "server",
    code:
      code === "upstream_timeout" || code === "model_overloaded" || code === "model_unavailable"
        ? code
        : "upstream_failed",
    message: cause?.message ?? "The model server broke off.",
    retryAfterS: cause?.retryAfterS ?? 1,
  };
}
