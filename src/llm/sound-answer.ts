// Speech as a server makes it: its bytes go on as they come, as they are or as OpenAI's events. media-answer.ts opens it
// for an answer that is sound. It holds one piece from the socket at most, and reads the next when that has been taken.
import { AppError } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import type { BodyReader } from "./http1/body-queue.ts";
import type { TokenUsage } from "./llm.ts";
import { eventBytes, speechDelta, speechEnd } from "./media-events.ts";
import type { ServerResponse } from "./post.ts";
import type { TryAnswer } from "./try.ts";
import { noUsage } from "./usage-count.ts";

/** What is given out at once; a socket may hand over half a megabyte. A multiple of 3: as base64 without padding. */
const PIECE_BYTES_MAX = 12 * 1024;

/** Resolves with the first bytes. `promptEstimate` is all that is known of what it takes. Throws `upstream_failed`. */
export async function openSound(
  response: ServerResponse,
  exchange: Exchange,
  promptEstimate: number,
  asEvents: boolean,
): Promise<TryAnswer> {
  const sound = new SoundAnswer(response, exchange, promptEstimate, asEvents);
  await sound.begin();
  return sound;
}

class SoundAnswer implements TryAnswer {
  readonly status = 200;
  readonly contentType: string;
  readonly #reader: Pick<BodyReader, "read"> | undefined;
  readonly #exchange: Exchange;
  readonly #promptEstimate: number;
  readonly #asEvents: boolean;
  #held: Uint8Array | null = null;
  #begun = false;
  #ended = false;

  constructor(response: ServerResponse, exchange: Exchange, promptEstimate: number, asEvents: boolean) {
    this.contentType = asEvents ? "text/event-stream" : (response.headers.get("content-type") ?? "");
    this.#reader = response.body?.getReader();
    this.#exchange = exchange;
    this.#promptEstimate = promptEstimate;
    this.#asEvents = asEvents;
  }

  async begin(): Promise<void> {
    await this.#more();
    if (this.#held === null)
      throw new AppError("upstream_failed", "The model server said nothing.", { retryAfterS: 1 });
    this.#begun = true;
    this.#exchange.rest();
  }

  async read(): Promise<Uint8Array | null> {
    if (this.#held === null && !this.#ended) await this.#next();
    const held = this.#held;
    if (held === null) return null;
    if (this.#ended && this.#asEvents) {
      this.#held = null;
      return held;
    }
    this.#held = held.length > PIECE_BYTES_MAX ? held.subarray(PIECE_BYTES_MAX) : null;
    const piece = held.subarray(0, PIECE_BYTES_MAX);
    return this.#asEvents ? eventBytes(speechDelta(piece)) : piece;
  }

  cancel(): void {
    this.#ended = true;
    this.#held = null;
    this.#exchange.close();
  }

  usage(): TokenUsage {
    return this.#begun ? { ...noUsage, promptTokens: this.#promptEstimate } : noUsage;
  }

  async #next(): Promise<void> {
    this.#exchange.expectWithin(this.#exchange.limits.betweenTokensMs);
    try {
      await this.#more();
      if (!this.#ended) this.#exchange.rest();
      else if (this.#asEvents) this.#held = eventBytes(speechEnd(this.#promptEstimate));
    } catch (error) {
      this.#ended = true;
      const reason = this.#exchange.reason(error);
      this.#exchange.close();
      throw reason;
    }
  }

  /** Takes in what the server sends next: nothing where that was all. */
  async #more(): Promise<void> {
    while (this.#held === null && !this.#ended) {
      const next = await this.#reader?.read();
      if (next === undefined || next.done) {
        this.#ended = true;
        this.#exchange.done();
      } else if (next.value.length > 0) this.#held = next.value;
    }
  }
}
