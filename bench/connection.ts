// One keep-alive HTTP/1.1 connection of the load generator, one request at a time. Hand-made because fetch costs the
// generator three times the CPU, and the generator shares the machine with what it measures. Never use it for anything
// but a trusted server on this machine: it knows only content-length and chunked bodies.
import type { Socket } from "bun";

export interface Answer {
  readonly status: number;
  readonly body: string;
  /** `Retry-After` in seconds, 0 when there is none. */
  readonly retryAfterS: number;
}

export interface RequestParts {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: string;
  /** Further header lines, each ending with CRLF. */
  readonly headers?: string;
  /** Gets the text of a chunked body as it arrives. */
  readonly onText?: (text: string) => void;
}

interface Pending {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  readonly onText: ((text: string) => void) | undefined;
  seen: number;
}

/** Seconds without a byte after which a connection counts as dead: longer than any wait that the server may hold. */
const SILENCE_S_MAX = 120;

export class Connection {
  readonly #target: URL;
  readonly #headers: string;
  #socket: Socket | null = null;
  /** latin1, so that its length is in bytes. */
  #received = "";
  #unsent: Uint8Array | null = null;
  #pending: Pending | null = null;

  /** `headers`: lines sent with every request, each ending with CRLF. */
  constructor(target: URL, headers: string) {
    this.#target = target;
    this.#headers = headers;
  }

  /** Sends a request and resolves with its whole answer. Repeats it once on a new connection when this one was closed. */
  async request(parts: RequestParts): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#send(parts);
      } catch (error) {
        if (attempt === 2) throw error;
      }
    }
  }

  /** True while a request has no whole answer yet. */
  get busy(): boolean {
    return this.#pending !== null;
  }

  /** Drops the connection and whatever it waits for; the next request opens a new one. */
  close(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#pending = null;
    socket?.end();
  }

  async #send(parts: RequestParts): Promise<Answer> {
    this.#socket ??= await this.#open();
    return new Promise<Answer>((resolve, reject) => {
      this.#pending = { resolve, reject, onText: parts.onText, seen: 0 };
      const body = parts.body ?? "";
      const length = parts.body === undefined ? "" : `content-length: ${Buffer.byteLength(body)}\r\n`;
      const type = parts.body === undefined ? "" : "content-type: application/json\r\n";
      const start = `${parts.method} ${parts.path} HTTP/1.1\r\nhost: ${this.#target.host}\r\n`;
      this.#unsent = Buffer.from(`${start}${this.#headers}${parts.headers ?? ""}${type}${length}\r\n${body}`);
      this.#flush();
    });
  }

  async #open(): Promise<Socket> {
    this.#received = "";
    const socket = await Bun.connect({
      hostname: this.#target.hostname,
      port: Number(this.#target.port || 80),
      socket: {
        data: (from, bytes) => {
          if (from !== this.#socket) return;
          this.#received += bytes.toString("latin1");
          this.#read();
        },
        drain: () => this.#flush(),
        timeout: (from) => this.#fail(from, new Error(`no byte for ${SILENCE_S_MAX} s`)),
        close: (from) => this.#fail(from, new Error("connection closed")),
        error: (from, error) => this.#fail(from, error),
      },
    });
    socket.setNoDelay(true);
    socket.timeout(SILENCE_S_MAX);
    return socket;
  }

  #fail(from: Socket, error: Error): void {
    if (from !== this.#socket) return;
    const pending = this.#pending;
    this.close();
    pending?.reject(error);
  }

  #flush(): void {
    if (this.#unsent === null || this.#socket === null) return;
    const written = Math.max(0, this.#socket.write(this.#unsent));
    this.#unsent = written < this.#unsent.length ? this.#unsent.subarray(written) : null;
  }

  #read(): void {
    const pending = this.#pending;
    if (pending === null) return;
    const message = parseMessage(this.#received);
    if (message === null) return;
    if (pending.onText && message.body.length > pending.seen) {
      const text = message.body.slice(pending.seen);
      pending.seen = message.body.length;
      pending.onText(text);
    }
    if (!message.complete || this.#pending !== pending) return;
    this.#received = "";
    this.#pending = null;
    const retryAfterS = Number(/\r\nretry-after: *(\d+)/.exec(message.head)?.[1] ?? 0);
    const body = Buffer.from(message.body, "latin1").toString();
    pending.resolve({ status: Number(message.head.slice(9, 12)), body, retryAfterS });
  }
}

export interface Message {
  readonly complete: boolean;
  /** Status line and headers, in lower case. */
  readonly head: string;
  /** What has arrived of the body, as latin1. */
  readonly body: string;
}

/** The HTTP message at the start of `buffer` (latin1), or null while its head is not there yet. */
export function parseMessage(buffer: string): Message | null {
  const headEnd = buffer.indexOf("\r\n\r\n");
  if (headEnd < 0) return null;
  const head = buffer.slice(0, headEnd).toLowerCase();
  const bodyStart = headEnd + 4;
  const length = /\r\ncontent-length: *(\d+)/.exec(head);
  if (length) {
    const end = bodyStart + Number(length[1]);
    return { complete: buffer.length >= end, head, body: buffer.slice(bodyStart, end) };
  }
  if (/\r\ntransfer-encoding: *chunked/.test(head)) return { head, ...parseChunks(buffer, bodyStart) };
  return { complete: true, head, body: "" };
}

function parseChunks(buffer: string, start: number): Omit<Message, "head"> {
  let body = "";
  let at = start;
  for (;;) {
    const lineEnd = buffer.indexOf("\r\n", at);
    if (lineEnd < 0) return { complete: false, body };
    const size = Number.parseInt(buffer.slice(at, lineEnd), 16);
    const next = lineEnd + 2 + size + 2;
    if (buffer.length < next) return { complete: false, body };
    body += buffer.slice(lineEnd + 2, lineEnd + 2 + size);
    at = next;
    if (size === 0) return { complete: true, body };
  }
}
