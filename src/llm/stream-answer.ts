// A streamed answer: server-sent events, read as somebody asks for them, each looked into once. Until the first content
// it holds them back, so that a failure may still go unseen; afterwards a stream that does not end as it should is an
// error, never a silent end. upstream.ts opens it.
import { AppError } from "../errors.ts";
import type { HeldRoom } from "./answer-room.ts";
import type { EventReader } from "./chunk.ts";
import type { Exchange } from "./exchange.ts";
import type { BodyRead, BodyReader } from "./http1/body-queue.ts";
import type { TokenUsage } from "./llm.ts";
import type { ServerResponse } from "./post.ts";
import { SseSplitter } from "./sse.ts";
import { type Blamed, type TryAnswer, TryFailure } from "./try.ts";
import type { UpstreamRequest } from "./upstream.ts";
import { UsageCount } from "./usage-count.ts";

/** What is held back for the first content at most; then the answer counts as begun. */
const HELD_EVENTS_MAX = 64;
const HELD_BYTES_MAX = 256 * 1024;
/** What is given out at once: a socket may hand over half a megabyte, and a reader's credit is smaller. */
const READ_BYTES_MAX = 16 * 1024;
/** A server that has said `[DONE]` has so long to end the answer, or loses the connection. */
const DRAIN_MS = 1_000;

export interface StreamParts {
  readonly reader: EventReader;
  /** Of events that hold sound or pictures. */
  readonly large?: LargeEvents;
}

export interface LargeEvents {
  readonly eventBytesMax: number;
  /** How long the server may be silent between them. */
  readonly silenceMs: number;
  /** The memory that they take. */
  readonly room: HeldRoom;
}

export async function openStream(
  response: ServerResponse,
  exchange: Exchange,
  request: Pick<UpstreamRequest, "streamUsage" | "promptEstimate">,
  parts: StreamParts,
): Promise<TryAnswer> {
  if (!/^text\/event-stream\b/i.test(response.headers.get("content-type") ?? "") || response.body === null) {
    throw new AppError("upstream_failed", "The model server answered something else than a stream.", {
      retryAfterS: 1,
    });
  }
  const answer = new StreamAnswer(response.body.getReader(), exchange, request, parts);
  await answer.begin();
  return answer;
}

class StreamAnswer implements TryAnswer {
  readonly status = 200;
  readonly contentType = "text/event-stream";
  blamed: Blamed = "server";
  readonly #reader: Pick<BodyReader, "read">;
  readonly #exchange: Exchange;
  readonly #splitter: SseSplitter;
  readonly #chunks: EventReader;
  readonly #silenceMs: number;
  readonly #room: HeldRoom | undefined;
  readonly #count: UsageCount;
  readonly #wantsUsage: boolean;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #begun = false;
  #ended = false;
  #failure: unknown = null;

  constructor(
    reader: BodyReader,
    exchange: Exchange,
    request: Pick<UpstreamRequest, "streamUsage" | "promptEstimate">,
    { reader: chunks, large }: StreamParts,
  ) {
    this.#reader = reader;
    this.#exchange = exchange;
    this.#splitter = new SseSplitter(large?.eventBytesMax);
    this.#chunks = chunks;
    this.#silenceMs = large?.silenceMs ?? exchange.limits.betweenTokensMs;
    this.#room = large?.room;
    this.#count = new UsageCount(request.promptEstimate);
    this.#wantsUsage = request.streamUsage;
  }

  async begin(): Promise<void> {
    while (!this.#begun && !this.#ended && this.#held.length < HELD_EVENTS_MAX && this.#heldBytes < HELD_BYTES_MAX) {
      this.#takeIn(await this.#reader.read());
    }
    this.#begun = true;
    if (!this.#ended) this.#exchange.rest();
  }

  async read(): Promise<Uint8Array | null> {
    if (this.#held.length === 0 && !this.#ended) await this.#fill();
    if (this.#held.length > 0) return joined(this.#next());
    if (this.#failure !== null) throw this.#failure;
    return null;
  }

  /** Whole events, of READ_BYTES_MAX together, or one that is larger: of a large kind piece by piece. */
  #next(): readonly Uint8Array[] {
    let [count, bytes] = [0, 0];
    const first = this.#held[0];
    if (this.#room && first && first.length > READ_BYTES_MAX) {
      this.#held[0] = first.subarray(READ_BYTES_MAX);
      return [first.subarray(0, READ_BYTES_MAX)];
    }
    for (const piece of this.#held) {
      bytes += piece.length;
      if (bytes > READ_BYTES_MAX && count > 0) return this.#held.splice(0, count);
      count++;
    }
    const all = this.#held;
    this.#held = [];
    this.#room?.release();
    return all;
  }

  /** Waits for the next events. A failure is kept until what came before it has been read. */
  async #fill(): Promise<void> {
    this.#exchange.expectWithin(this.#silenceMs);
    try {
      while (this.#held.length === 0 && !this.#ended) this.#takeIn(await this.#reader.read());
      if (!this.#ended) this.#exchange.rest();
    } catch (error) {
      const failure = error instanceof TryFailure ? error : null;
      this.#ended = true;
      this.blamed = failure?.blamed ?? "server";
      this.#failure = this.#exchange.reason(failure?.error ?? error);
      this.#room?.release();
      this.#exchange.close();
    }
  }

  cancel(): void {
    this.#ended = true;
    this.#held = [];
    this.#room?.release();
    this.#exchange.close();
  }

  usage(): TokenUsage {
    return this.#count.usage();
  }

  /** What the server sends next. */
  #takeIn({ done, value }: BodyRead): void {
    if (value && this.#room) {
      this.#room.take(value.length);
      // It may be the smallest part of its event.
      if (this.#begun) this.#exchange.expectWithin(this.#silenceMs);
    }
    for (const { bytes, data } of done ? this.#splitter.end() : this.#splitter.push(value)) {
      if (this.#take(bytes, data)) return this.#finish(done);
    }
    if (done) this.#finish(true);
  }

  /** True when the event ends the stream. */
  #take(bytes: Uint8Array, data: Uint8Array): boolean {
    const chunk = this.#chunks.read(data);
    if (chunk.kind === "done") return true;
    if (chunk.kind === "malformed") throw new AppError("upstream_failed", "The model server sent what cannot be read.");
    if (chunk.kind === "error") throw this.#failed(chunk.errorStatus);
    this.#count.pass(chunk.tokens);
    if (chunk.usage) this.#count.told(chunk.usage);
    if (chunk.usageOnly && !this.#wantsUsage) return false;
    if (chunk.content) this.#begun = true;
    this.#hold(chunk.bytes ?? bytes);
    return false;
  }

  #hold(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
  }

  #failed(status: number): TryFailure {
    const full = status === 429 || status === 529;
    if (full && !this.#begun) {
      return new TryFailure(
        "overloaded",
        new AppError("model_overloaded", "The model has no room.", { retryAfterS: 1 }),
      );
    }
    const why = "The model server failed in the middle of the answer.";
    return new TryFailure("failed", new AppError("upstream_failed", why, { retryAfterS: 1 }), "unclear");
  }

  #finish(closed: boolean): void {
    if (!this.#chunks.complete) {
      throw new AppError("upstream_failed", "The model server's answer ended too early.", { retryAfterS: 1 });
    }
    this.#hold(this.#chunks.last());
    this.#ended = true;
    if (closed) return this.#exchange.done();
    // Read to its end, the connection serves another request.
    this.#exchange.expectWithin(DRAIN_MS);
    this.#reader.read().then(
      ({ done }) => (done ? this.#exchange.done() : this.#exchange.close()),
      () => this.#exchange.close(),
    );
  }
}

/** One piece of bytes; those that lie behind one another, as they came from the socket, are not copied. */
function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const first = pieces[0];
  if (first === undefined) return new Uint8Array();
  if (pieces.length === 1) return first;
  let end = first.byteOffset + first.length;
  for (let i = 1; i < pieces.length; i++) {
    const piece = pieces[i] as Uint8Array;
    if (piece.buffer !== first.buffer || piece.byteOffset !== end) return Buffer.concat(pieces as Uint8Array[]);
    end += piece.length;
  }
  return new Uint8Array(first.buffer, first.byteOffset, end - first.byteOffset);
}
