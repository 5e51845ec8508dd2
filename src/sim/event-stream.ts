// Server-sent events to one client. What is sent while the client reads goes out at once; a client that does not read is
// told so by ready(), and whoever sends holds back until `onReady`. It keeps at most as many events as its mark allows.

export interface EventStream {
  readonly body: ReadableStream<Uint8Array>;
  /** False while the client has not read what was sent. */
  ready(): boolean;
  /** One event: the JSON of its data. Nothing once the stream has ended. */
  send(json: string): void;
  /** Sends `[DONE]` and ends. */
  finish(): void;
}

export interface EventStreamOptions {
  /** The client has read on after it was not ready. */
  onReady(): void;
  /** The client has left before the end. */
  onLeft(): void;
}

/** Events that may wait for a client that reads slowly. */
const WAITING_EVENTS_MAX = 64;
const encoder = new TextEncoder();

export function createEventStream({ onReady, onLeft }: EventStreamOptions): EventStream {
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  const body = new ReadableStream<Uint8Array>(
    {
      start(given) {
        controller = given;
      },
      pull: onReady,
      cancel() {
        controller = null;
        onLeft();
      },
    },
    new CountQueuingStrategy({ highWaterMark: WAITING_EVENTS_MAX }),
  );
  const send = (data: string): void => controller?.enqueue(encoder.encode(`data: ${data}\n\n`));
  return {
    body,
    ready: () => (controller?.desiredSize ?? 0) > 0,
    send,
    finish() {
      send("[DONE]");
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
