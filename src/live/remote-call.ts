// One live call as its gateway sees it: an answer that comes in frames from an actor. gateway-link.ts makes it, hands it
// its frames in order and carries what it says to the actor. It holds at most the window that it gave, and gives credit
// back only for what the client has taken.
//
//   opening ── head ──► answering ── end ──► over
//      └── failed ──┴── failed, a missing frame, actor gone, cancel ──► over
import { AppError } from "../errors.ts";
import type { TokenUsage } from "../llm/llm.ts";
import { type Blamed, type TryAnswer, TryFailure } from "../llm/try.ts";
import { UsageCount } from "../llm/usage-count.ts";
import { type Counted, type Head, parseCounted, parseFailed, parseHead, type ToGateway } from "./frames.ts";

/** Larger frames are a message of their own, and not worth a copy. */
const COPIED_BYTES_MAX = 64 * 1024;

export interface RemoteCallParts {
  readonly actorId: string;
  readonly signal: AbortSignal;
  readonly promptEstimate: number;
  /** Bytes that the actor may send before it is given credit. */
  readonly window: number;
  /** Called with the number of the next part of the body. */
  readonly onTaken: () => void;
  readonly giveCredit: (bytes: number) => void;
  /** Called once. `early`: the actor does not know yet that the call is over. */
  readonly onOver: (early: boolean) => void;
}

export class RemoteCall implements TryAnswer {
  readonly opened: Promise<TryAnswer>;
  blamed: Blamed = "server";
  /** When a frame of it came last, by the watchdog's clock. */
  heardAtMs = 0;
  readonly #parts: RemoteCallParts;
  readonly #opening = Promise.withResolvers<TryAnswer>();
  readonly #count: UsageCount;
  #head: Head | null = null;
  #expected = 0;
  #queue: Uint8Array[] = [];
  #queuedPieces: Uint8Array[] = [];
  #reader: { resolve(bytes: Uint8Array | null): void; reject(error: unknown): void } | null = null;
  #uncredited = 0;
  #state: "opening" | "answering" | "over" = "opening";
  #failure: AppError | null = null;
  #finished = false;

  constructor(parts: RemoteCallParts) {
    this.#parts = parts;
    this.#count = new UsageCount(parts.promptEstimate);
    this.opened = this.#opening.promise;
    parts.signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  get actorId(): string {
    return this.#parts.actorId;
  }

  get isComplete(): boolean {
    return this.#finished && this.#queue.length === 0;
  }

  get status(): number {
    return this.#head?.status ?? 0;
  }

  get contentType(): string {
    return this.#head?.contentType ?? "";
  }

  usage(): TokenUsage {
    return this.#count.usage();
  }

  read(): Promise<Uint8Array | null> {
    if (this.#queue.length > 0) return Promise.resolve(this.#taken());
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#state === "over") return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  cancel(): void {
    this.#queue = [];
    this.#end(true);
    this.#reader?.resolve(null);
    this.#reader = null;
  }

  take(frame: ToGateway): void {
    if (this.#state === "over") return;
    if (frame.number !== this.#expected++) return this.fail("upstream_failed", "A part of the answer was lost.", true);
    switch (frame.tag) {
      case "data":
        return this.#data(frame);
      case "piece":
        return void this.#queuedPieces.push(frame.bytes);
      case "taken":
        return this.#parts.onTaken();
      case "head":
        return this.#begin(parseHead(frame.bytes));
      case "end":
        return this.#finish(frame.bytes);
      case "failed":
        return this.#failed(frame.bytes);
      case "beat":
        return;
    }
  }

  /**
   * The actor, or the way to it, is gone: another one may be tried, if nothing has come of the answer. Should it live
   * after all, it is told.
   */
  lost(): void {
    if (this.#state === "opening") {
      const error = new AppError("model_unavailable", "No server of the model can be reached.", { retryAfterS: 1 });
      this.#refuse(new TryFailure("failed", error, "actor"), true);
    } else this.fail("upstream_failed", "The server of the answer is gone.", true);
  }

  fail(code: "upstream_failed" | "upstream_timeout", message: string, early: boolean): void {
    const error = new AppError(code, message, { retryAfterS: 1 });
    if (this.#state === "opening") return this.#refuse(new TryFailure("failed", error), early);
    if (this.#state === "over") return;
    this.blamed = "actor";
    this.#failure = error;
    this.#end(early);
    this.#settleFailure();
  }

  #begin(head: Head | null): void {
    if (head === null || this.#state !== "opening")
      return this.fail("upstream_failed", "The answer cannot be read.", true);
    this.#head = head;
    this.#state = "answering";
    this.#opening.resolve(this);
  }

  #data({ bytes, tokens }: ToGateway): void {
    this.#count.pass(tokens);
    let piece = bytes;
    if (this.#queuedPieces.length > 0) {
      piece = Buffer.concat([...this.#queuedPieces, bytes]);
      this.#queuedPieces = [];
    } else if (bytes.length <= COPIED_BYTES_MAX) piece = bytes.slice(); // a view would keep the whole message in memory
    this.#queue.push(piece);
    const reader = this.#reader;
    this.#reader = null;
    reader?.resolve(this.#taken());
  }

  #finish(bytes: Uint8Array): void {
    const counted = parseCounted(bytes);
    if (counted === null || this.#state !== "answering")
      return this.fail("upstream_failed", "The answer cannot be read.", true);
    this.#count.told(usageOf(counted));
    this.#finished = true;
    this.#end(false);
    this.#reader?.resolve(null);
    this.#reader = null;
  }

  #failed(bytes: Uint8Array): void {
    const failed = parseFailed(bytes);
    if (failed === null) return this.fail("upstream_failed", "The answer cannot be read.", true);
    const { outcome, blamed, code, message, retryAfterS } = failed;
    const error = new AppError(code, message, { retryAfterS });
    if (this.#state === "opening") return this.#refuse(new TryFailure(outcome, error, blamed));
    this.#count.told(usageOf(failed));
    this.blamed = blamed;
    this.#failure = error;
    this.#end(false);
    this.#settleFailure();
  }

  readonly #onAbort = (): void => {
    if (this.#state === "opening") this.#opening.reject(this.#parts.signal.reason);
    this.cancel();
  };

  #refuse(failure: TryFailure, early = false): void {
    this.#end(early);
    this.#opening.reject(failure);
  }

  #settleFailure(): void {
    this.#reader?.reject(this.#failure);
    this.#reader = null;
  }

  /** Everything that is here, as one piece; credit is given back by halves of the window. */
  #taken(): Uint8Array {
    const pieces = this.#queue;
    this.#queue = [];
    const bytes = pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
    this.#uncredited += bytes.length;
    if (this.#state !== "over" && this.#uncredited >= this.#parts.window / 2) {
      this.#parts.giveCredit(this.#uncredited);
      this.#uncredited = 0;
    }
    return bytes;
  }

  #end(early: boolean): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#parts.signal.removeEventListener("abort", this.#onAbort);
    this.#parts.onOver(early);
  }
}

/** The counts alone: a frame may say more. */
const usageOf = ({ promptTokens, completionTokens, cachedTokens }: Counted): TokenUsage => ({
  promptTokens,
  completionTokens,
  cachedTokens,
});
