// One HTTP/1.1 response out of the bytes of a socket, however the network cut them (RFC 9112). connection.ts feeds it. It
// is strict where a lax reading would let a response end early or late, holds no body, and no more than one line of the
// rest. Requests other than POST have bodies of other rules: it knows none of them.

/** Status line and headers together; of Bun's own server, and of nginx, 16 and 32 KiB. */
const HEAD_BYTES_MAX = 64 * 1024;
/** A chunk's size with its extensions, or a trailer. */
const LINE_BYTES_MAX = 4_096;
const TRAILERS_MAX = 64;
/** `100 Continue`, `103 Early Hints`. */
const INTERIM_MAX = 8;
const CR = 13;
const LF = 10;
const HEAD_END = Buffer.from("\r\n\r\n");
const EMPTY = new Uint8Array();

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?$/;
const SIZE_DIGITS_MAX = 12;
const CHUNK_SIZE = /^([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?$/;

export interface ResponseHead {
  readonly status: number;
  readonly headers: Headers;
}

type State = "head" | "sized" | "until-close" | "chunk-size" | "chunk" | "chunk-end" | "trailers" | "ended";

export class ResponseReader {
  /** Null until all of it is here. */
  head: ResponseHead | null = null;
  /** The connection may serve another request after this response. */
  keepAlive = false;
  #state: State = "head";
  #held: Uint8Array = EMPTY;
  /** Of the body, or of the current chunk. */
  #bytesLeft = 0;
  #interims = 0;
  #trailers = 0;

  get ended(): boolean {
    return this.#state === "ended";
  }

  /**
   * Hands `take` the bytes of the body within `bytes`, as one view: those of several chunks are moved together in it, as
   * a piece for each would cost more than what is in it. Throws an Error for what is no such response, after the rest.
   */
  push(bytes: Uint8Array, take: (body: Uint8Array) => void): void {
    let at = 0;
    let [from, to] = [0, 0];
    try {
      while (at < bytes.length) {
        switch (this.#state) {
          case "head":
            at = this.#readHead(bytes, at);
            break;
          case "until-close":
          case "sized":
          case "chunk": {
            const end = this.#endOfBody(bytes.length, at);
            if (from === to) from = to = at;
            if (to < at) bytes.copyWithin(to, at, end);
            to += end - at;
            at = end;
            break;
          }
          case "chunk-size":
          case "chunk-end":
          case "trailers":
            at = this.#readPlainSize(bytes, at) ?? this.#readLine(bytes, at);
            break;
          case "ended":
            this.keepAlive = false; // whatever it is that follows, it answers nothing
            return;
        }
      }
    } finally {
      if (to > from) take(bytes.subarray(from, to));
    }
  }

  /** The connection is closed: throws where that cuts the response off. */
  close(): void {
    if (this.#state === "until-close") this.#state = "ended";
    if (this.#state !== "ended") throw new Error("the connection was closed within a response");
  }

  #endOfBody(length: number, at: number): number {
    if (this.#state === "until-close") return length;
    const end = Math.min(length, at + this.#bytesLeft);
    this.#bytesLeft -= end - at;
    if (this.#bytesLeft === 0) this.#state = this.#state === "sized" ? "ended" : "chunk-end";
    return end;
  }

  #readHead(bytes: Uint8Array, at: number): number {
    const held = this.#held.length;
    const joined = this.#join(bytes, at, HEAD_BYTES_MAX);
    const end = joined.indexOf(HEAD_END, Math.max(0, held - HEAD_END.length));
    if (end < 0) {
      if (joined.length > HEAD_BYTES_MAX) throw new Error("too large a head");
      this.#held = joined;
      return bytes.length;
    }
    this.#held = EMPTY;
    this.#begin(joined.toString("latin1", 0, end).split("\r\n"));
    return at + end + HEAD_END.length - held;
  }

  #begin(lines: readonly string[]): void {
    const [, minor, digits] = STATUS_LINE.exec(lines[0] ?? "") ?? [];
    if (digits === undefined) throw new Error("no status line");
    const status = Number(digits);
    const headers = headersOf(lines.slice(1));
    if (status < 200) {
      if (status === 101 || ++this.#interims > INTERIM_MAX)
        throw new Error("an interim response that was not asked for");
      return;
    }
    this.head = { status, headers };
    this.keepAlive = minor === "1" && !/\bclose\b/i.test(headers.get("connection") ?? "");
    this.#state = this.#framing(status, headers);
  }

  /** RFC 9112 §6.3. */
  #framing(status: number, headers: Headers): State {
    if (!isPlain(headers.get("content-encoding"))) throw new Error("a body in an encoding that was not asked for");
    const coding = headers.get("transfer-encoding");
    const length = headers.get("content-length");
    if (status === 204 || status === 304) return "ended";
    if (coding !== null) {
      if (coding.toLowerCase() !== "chunked") throw new Error("an unknown transfer-encoding");
      if (length !== null) this.keepAlive = false; // somebody on the way may count otherwise
      return "chunk-size";
    }
    if (length === null) {
      this.keepAlive = false;
      return "until-close";
    }
    if (!/^\d{1,15}$/.test(length)) throw new Error("a bad content-length");
    this.#bytesLeft = Number(length);
    return this.#bytesLeft === 0 ? "ended" : "sized";
  }

  /** As every server sends it, without a copy: digits, CR, LF. Null for any other line. */
  #readPlainSize(bytes: Uint8Array, at: number): number | null {
    if (this.#state !== "chunk-size" || this.#held.length > 0) return null;
    let size = 0;
    let end = at;
    for (let digit = hexDigit(bytes[end]); digit >= 0; digit = hexDigit(bytes[++end])) size = size * 16 + digit;
    if (end === at || end - at > SIZE_DIGITS_MAX || bytes[end] !== CR || bytes[end + 1] !== LF) return null;
    this.#beginChunk(size);
    return end + 2;
  }

  #beginChunk(size: number): void {
    this.#bytesLeft = size;
    this.#state = size === 0 ? "trailers" : "chunk";
  }

  #readLine(bytes: Uint8Array, at: number): number {
    const lineFeed = bytes.indexOf(LF, at);
    if (lineFeed < 0) {
      this.#held = this.#join(bytes, at, LINE_BYTES_MAX);
      if (this.#held.length > LINE_BYTES_MAX) throw new Error("too long a line");
      return bytes.length;
    }
    if (this.#state === "chunk-end" && this.#held.length === 0 && lineFeed === at + 1 && bytes[at] === CR) {
      this.#state = "chunk-size";
      return lineFeed + 1;
    }
    const line = this.#join(bytes.subarray(0, lineFeed + 1), at, LINE_BYTES_MAX);
    if (line.length > LINE_BYTES_MAX || line[line.length - 2] !== CR) throw new Error("a bad line in a chunked body");
    this.#held = EMPTY;
    this.#line(line.toString("latin1", 0, line.length - 2));
    return lineFeed + 1;
  }

  #line(line: string): void {
    if (this.#state === "chunk-size") {
      const [, digits] = CHUNK_SIZE.exec(line) ?? [];
      if (digits === undefined) throw new Error("a bad chunk size");
      this.#beginChunk(Number.parseInt(digits, 16));
    } else if (this.#state === "chunk-end") {
      if (line !== "") throw new Error("a chunk longer than its size");
      this.#state = "chunk-size";
    } else if (line === "") this.#state = "ended";
    else if (++this.#trailers > TRAILERS_MAX) throw new Error("too many trailers");
  }

  /** What is held and `bytes` from `at`; of a stranger's flood no more than `bytesMax` and one read. */
  #join(bytes: Uint8Array, at: number, bytesMax: number): Buffer {
    const rest = Buffer.from(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
    if (this.#held.length === 0) return rest;
    return Buffer.concat([this.#held, rest.subarray(0, bytesMax + 1)]);
  }
}

/** -1 for what is none. */
function hexDigit(byte = 0): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

const isPlain = (encoding: string | null): boolean => encoding === null || /^(identity)?$/i.test(encoding);

/** Throws for names and values that are none, folded lines among them. */
function headersOf(lines: readonly string[]): Headers {
  const headers = new Headers();
  try {
    for (const line of lines) {
      const colon = line.indexOf(":");
      headers.append(line.slice(0, Math.max(0, colon)), line.slice(colon + 1));
    }
  } catch {
    throw new Error("a bad header"); // not in its own words: they quote the server, which may quote our key
  }
  return headers;
}
