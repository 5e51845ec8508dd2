// The body of one response between the socket that it comes from and whoever reads it. connection.ts fills it and learns
// when there is room again. What had come before a failure is read before the failure is told.

/** What is held for a reader; beyond it the socket is paused, whose last read may add half a megabyte. */
const HELD_BYTES_MAX = 64 * 1024;

export type BodyRead =
  | { readonly done: false; readonly value: Uint8Array }
  | { readonly done: true; readonly value?: Uint8Array | undefined };

/** As much of a stream's reader as an answer needs. */
export interface BodyReader {
  /** The next bytes, or the end. Throws where the response was cut off. One at a time. */
  read(): Promise<BodyRead>;
  /** Nobody reads on: closes the connection, unless the response is whole. */
  cancel(): Promise<void>;
}

const END: BodyRead = { done: true };

export class BodyQueue implements BodyReader {
  readonly #onRoom: () => void;
  readonly #onCancel: () => void;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #failure: { readonly reason: unknown } | null = null;
  #waiting: { resolve(read: BodyRead): void; reject(reason: unknown): void } | null = null;

  constructor(onRoom: () => void, onCancel: () => void) {
    this.#onRoom = onRoom;
    this.#onCancel = onCancel;
  }

  get isFull(): boolean {
    return this.#bytes > HELD_BYTES_MAX;
  }

  push(bytes: Uint8Array): void {
    if (this.#waiting !== null) {
      const waiting = this.#waiting;
      this.#waiting = null;
      return waiting.resolve({ done: false, value: bytes });
    }
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
  }

  end(): void {
    this.#ended = true;
    this.#waiting?.resolve(END);
    this.#waiting = null;
  }

  fail(reason: unknown): void {
    this.#failure = { reason };
    this.#waiting?.reject(reason);
    this.#waiting = null;
  }

  read(): Promise<BodyRead> {
    const value = this.#pieces.shift();
    if (value !== undefined) {
      const wasFull = this.isFull;
      this.#bytes -= value.length;
      if (wasFull && !this.isFull) this.#onRoom();
      return Promise.resolve({ done: false, value });
    }
    if (this.#failure !== null) return Promise.reject(this.#failure.reason);
    if (this.#ended) return Promise.resolve(END);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  async cancel(): Promise<void> {
    this.#pieces = [];
    this.#bytes = 0;
    if (!this.#ended && this.#failure === null) this.#onCancel();
  }
}
