// Server-sent events to one client. What is sent while the client reads goes out at once; a client that does not read is
// told so by ready(), and whoever sends holds back until `onReady`. It keeps at most as many events as its mark allows.

export interface EventStream {
  readonly body: ReadableStream<Uint8Array>;
  /** False while the client has not read what was sent. */
  ready(): boolean;
  /** One event: the JSON of its data. Nothing once the stream has ended. */
  send(json: string): void;
  /** Ends, with a `[DONE]` before it where `sentinel` is true. */
  finish(sentinel: boolean): void;
}

export interface EventStreamOptions {
  /** The client has read on after it was not ready. */
  onReady(): void;
  /** The client has left before the end. */
  onLeft(): void;
}

/** Events that may wait for a client that reads slowly. */
const WAITING_EVENTS_MAX = 64;
/** Bun sends the headers with the first bytes, vLLM at once: a comment brings them to who waits long for a token. */
const HEADERS_MS_MAX = 250;
const encoder = new TextEncoder();

export function createEventStream({ onReady, onLeft }: EventStreamOptions): EventStream {
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  let headersLate: Timer | null = null;
  const write = (text: string): void => {
    if (headersLate !== null) clearTimeout(headersLate);
    headersLate = null;
    controller?.enqueue(encoder.encode(text));
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(given) {
        controller = given;
        headersLate = setTimeout(write, HEADERS_MS_MAX, ":\n\n");
      },
      pull: onReady,
      cancel() {
        if (headersLate !== null) clearTimeout(headersLate);
        controller = null;
        onLeft();
      },
    },
    new CountQueuingStrategy({ highWaterMark: WAITING_EVENTS_MAX }),
  );
  return {
    body,
    ready: () => (controller?.desiredSize ?? 0) > 0,
    send: (json) => write(`data: ${json}\n\n`),
    finish(sentinel) {
      if (sentinel) write("data: [DONE]\n\n");
      controller?.close();
      controller = null;
    },
  };
}

export const eventStreamHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};
