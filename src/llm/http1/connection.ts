// One connection to a model server: one request at a time, one after the other. pool.ts opens it, keeps it while it rests
// and drops it. While nobody reads a response its socket is paused, so that the server is held back and no memory grows.
//
//   resting ── request ──► busy ── response whole, connection good ──► resting
//      └── closed by the server ──┴── broken, cut off, aborted ──► closed
import { BodyQueue, type BodyReader } from "./body-queue.ts";
import { type ResponseHead, ResponseReader } from "./response-reader.ts";

/**
 * More is waiting behind a read of so much. Bun would read on at once, up to ten times, and a server that sends faster
 * than its answer is looked into would keep the loop from timers and from all other calls.
 */
const LARGE_READ_BYTES = 256 * 1024;

export interface HttpResponse extends ResponseHead {
  readonly body: { getReader(): BodyReader };
}

export interface ConnectionEvents {
  /** Its response is whole, and it may serve another. */
  onResting(connection: Connection): void;
  /** Once. */
  onClosed(connection: Connection): void;
}

interface Busy {
  readonly response: ResponseReader;
  readonly body: BodyQueue;
  readonly answered: PromiseWithResolvers<HttpResponse>;
  readonly signal: AbortSignal;
}

export class Connection {
  /** Whether anything has come of the response to the last request. */
  heard = false;
  readonly #events: ConnectionEvents;
  #socket: Bun.Socket | null = null;
  #busy: Busy | null = null;
  #unsent: Uint8Array | null = null;
  #paused = false;
  #yields = false;

  private constructor(events: ConnectionEvents) {
    this.#events = events;
  }

  /** Rejects where nobody listens there, and when `signal` aborts. */
  static async open(
    hostname: string,
    port: number,
    events: ConnectionEvents,
    signal: AbortSignal,
  ): Promise<Connection> {
    const connection = new Connection(events);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    const connecting = Bun.connect({ hostname, port, socket: connection.#handlers() });
    try {
      await Promise.race([connecting, aborted]);
      return connection;
    } catch (error) {
      connecting.then((late) => late.terminate()).catch(() => {}); // it was told already
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** `message` is a whole POST. Rejects where no response comes of it; a body that is cut off throws as it is read. */
  request(message: Uint8Array, signal: AbortSignal): Promise<HttpResponse> {
    const answered = Promise.withResolvers<HttpResponse>();
    if (this.#socket === null || signal.aborted) {
      answered.reject(signal.aborted ? signal.reason : new Error("the connection is closed"));
      this.close(); // the pool has let go of it
      return answered.promise;
    }
    const body = new BodyQueue(this.#resume, this.close);
    this.#busy = { response: new ResponseReader(), body, answered, signal };
    this.heard = false;
    signal.addEventListener("abort", this.#onAbort, { once: true });
    this.#socket.timeout(0);
    this.#socket.ref();
    this.#write(message);
    return answered.promise;
  }

  /** Until the next request: it is closed after `restS`, and keeps no process alive. */
  rest(restS: number): void {
    this.#socket?.unref();
    this.#socket?.timeout(restS);
  }

  readonly close = (): void => this.#end(new Error("the connection was closed"));

  #handlers(): Bun.SocketHandler<undefined> {
    return {
      open: (socket) => {
        this.#socket = socket;
        socket.setNoDelay(true);
      },
      data: (_, bytes) => this.#hear(bytes),
      drain: () => {
        if (this.#unsent !== null) this.#write(this.#unsent);
      },
      timeout: this.close,
      end: () => this.#cut(),
      close: (_, error) => (error ? this.#end(error) : this.#cut()),
      error: (_, error) => this.#end(error),
    };
  }

  #write(bytes: Uint8Array): void {
    const sent = this.#socket?.write(bytes) ?? 0;
    this.#unsent = sent < bytes.length ? bytes.subarray(Math.max(0, sent)) : null;
  }

  #hear(bytes: Uint8Array): void {
    const busy = this.#busy;
    if (busy === null) return this.#end(new Error("bytes that nobody asked for"));
    this.heard = true;
    const { response, body, answered } = busy;
    const hadHead = response.head !== null;
    try {
      response.push(bytes, (piece) => body.push(piece));
    } catch (error) {
      return this.#end(error);
    }
    if (!hadHead && response.head !== null) answered.resolve({ ...response.head, body: { getReader: () => body } });
    if (response.ended) return this.#whole(busy);
    if (body.isFull) this.#pause();
    if (bytes.length >= LARGE_READ_BYTES) this.#yield();
  }

  #whole({ response, body, signal }: Busy): void {
    this.#busy = null;
    signal.removeEventListener("abort", this.#onAbort);
    body.end();
    // A server may answer before it has taken the whole request.
    if (response.keepAlive && this.#unsent === null) this.#events.onResting(this);
    else this.#end(null);
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket?.pause();
  }

  /** Others are heard first. */
  #yield(): void {
    this.#pause();
    this.#yields = true;
    setImmediate(() => {
      this.#yields = false;
      if (!this.#busy?.body.isFull) this.#resume();
    });
  }

  readonly #resume = (): void => {
    if (!this.#paused || this.#yields) return;
    this.#paused = false;
    this.#socket?.resume();
  };

  readonly #onAbort = (): void => this.#end(this.#busy?.signal.reason);

  /** The server has closed it, which ends some responses in good order. */
  #cut(): void {
    if (this.#busy === null) return this.#end(null);
    try {
      this.#busy.response.close();
    } catch (error) {
      return this.#end(error);
    }
    this.#whole(this.#busy);
  }

  /** Closes it for good. Idempotent. */
  #end(reason: unknown): void {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.terminate();
    const busy = this.#busy;
    this.#busy = null;
    busy?.signal.removeEventListener("abort", this.#onAbort);
    busy?.answered.reject(reason);
    busy?.body.fail(reason);
    this.#events.onClosed(this);
  }
}
