// One task's events as a server-sent event stream (WHATWG HTML §9.2). events.ts opens it; the client's socket drives
// it: the next event is asked for only when the last one has been taken, so that at most one waits here in memory.
// It must never outlive its client, and never end as if all were well when the source failed.
//
//            pull                 event, beat
//   IDLE ──────────► WAITING ─────────────────► IDLE
//     │                 │ end of events, lifetime over, server stops ──► CLOSED (cleanly)
//     │ not pulled for stallMs, source failed ─────────────────────────► CLOSED (connection reset)
//     └─ client left ──────────────────────────────────────────────────► CLOSED
import type { TaskEvent } from "../tasks/tasks.ts";
import type { Hold } from "./holds.ts";

export interface EventStreamLimits {
  /** Silence after which a comment is sent. Proxies cut at 60 s or more, mobile networks earlier. */
  readonly beatMs: number;
  /** A client that takes nothing for so long is cut off; it can resume by its last event id. */
  readonly stallMs: number;
  /** After so long the stream ends and the client resumes: moves clients off old gateways and revoked keys. */
  readonly lifeMs: number;
}

export const eventStreamLimits: EventStreamLimits = { beatMs: 5_000, stallMs: 60_000, lifeMs: 3_600_000 };

/** What a client waits before it reconnects. */
const preamble = "retry: 1000\n\n";
const beat = ": beat\n\n";

const encoder = new TextEncoder();

/** The bytes of one event. A line break inside `data` becomes a second `data:` line, which the client joins again. */
export const eventText = ({ id, event, data }: TaskEvent): string =>
  `id: ${id}\nevent: ${event}\ndata: ${data.split(/\r\n|\r|\n/).join("\ndata: ")}\n\n`;

/** Streams `events` until they end; then, or when anything else ends the stream, aborts and releases `hold`. */
export function eventStream(
  events: AsyncIterable<TaskEvent>,
  hold: Hold,
  onFailure: (error: unknown) => void,
  limits: EventStreamLimits = eventStreamLimits,
): ReadableStream<Uint8Array> {
  return new ReadableStream(new EventPump(events, hold, onFailure, limits), { highWaterMark: 0 });
}

type Outcome =
  | { readonly kind: "event"; readonly event: TaskEvent }
  | { readonly kind: "ended" }
  | { readonly kind: "failed"; readonly error: unknown };

class EventPump {
  readonly #iterator: AsyncIterator<TaskEvent>;
  readonly #hold: Hold;
  readonly #onFailure: (error: unknown) => void;
  readonly #limits: EventStreamLimits;
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #open = true;
  /** True while `next()` of the iterator runs; it survives beats, so no event is lost between two pulls. */
  #asking = false;
  #outcome: Outcome | null = null;
  #wake: (() => void) | null = null;
  #stallTimer: ReturnType<typeof setTimeout> | undefined;
  #lifeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    events: AsyncIterable<TaskEvent>,
    hold: Hold,
    onFailure: (error: unknown) => void,
    limits: EventStreamLimits,
  ) {
    this.#iterator = events[Symbol.asyncIterator]();
    this.#hold = hold;
    this.#onFailure = onFailure;
    this.#limits = limits;
  }

  start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.#controller = controller;
    this.#lifeTimer = setTimeout(this.#finish, this.#limits.lifeMs);
    this.#hold.signal.addEventListener("abort", this.#finish, { once: true });
    if (this.#hold.signal.aborted) this.#finish();
    else this.#send(preamble);
  }

  async pull(): Promise<void> {
    clearTimeout(this.#stallTimer);
    this.#ask();
    if (this.#outcome === null) await this.#eventOrBeat();
    if (!this.#open) return;
    const outcome = this.#outcome;
    this.#outcome = null;
    if (outcome === null) this.#send(beat);
    else if (outcome.kind === "event") this.#send(eventText(outcome.event));
    else if (outcome.kind === "ended") this.#finish();
    else {
      this.#onFailure(outcome.error);
      // A turn later, so that the events before the failure leave first.
      await new Promise((resolve) => setImmediate(resolve));
      this.#reset("the source of events failed");
    }
  }

  cancel(): void {
    this.#close();
  }

  #ask(): void {
    if (this.#asking || this.#outcome !== null) return;
    this.#asking = true;
    const settle = (outcome: Outcome): void => {
      this.#asking = false;
      this.#outcome = outcome;
      this.#wake?.();
    };
    this.#iterator.next().then(
      (result) => settle(result.done ? { kind: "ended" } : { kind: "event", event: result.value }),
      (error: unknown) => settle({ kind: "failed", error }),
    );
  }

  async #eventOrBeat(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, this.#limits.beatMs);
    await promise;
    clearTimeout(timer);
    this.#wake = null;
  }

  #send(text: string): void {
    this.#controller?.enqueue(encoder.encode(text));
    this.#stallTimer = setTimeout(() => this.#reset("the client reads nothing"), this.#limits.stallMs);
  }

  /** Ends the stream in good order: the client sees its end and resumes, or is done. */
  readonly #finish = (): void => {
    if (this.#close()) this.#controller?.close();
  };

  #reset(why: string): void {
    if (this.#close()) this.#controller?.error(new Error(why));
  }

  /** Frees everything, once. False when that has been done before. */
  #close(): boolean {
    if (!this.#open) return false;
    this.#open = false;
    clearTimeout(this.#stallTimer);
    clearTimeout(this.#lifeTimer);
    this.#hold.signal.removeEventListener("abort", this.#finish);
    this.#hold.abort();
    this.#hold.release();
    this.#wake?.();
    // Not waited for: a generator parked in an await answers only once that settles, and the signal has told it to.
    this.#iterator.return?.().catch(this.#onFailure);
    return true;
  }
}
