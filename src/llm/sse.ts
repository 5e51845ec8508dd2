// Cuts the bytes of a model server's answer into whole server-sent events (WHATWG HTML §9.2.6), however the network cut
// them. stream-answer.ts feeds it. It keeps no more than one event, and scans no byte twice. Lines end with LF or CRLF; a lone
// CR, which the standard allows and no model server sends, ends no line.
import { AppError } from "../errors.ts";

/** An event beyond it is no token: what sends it is broken, or means harm. */
export const EVENT_BYTES_MAX = 1024 * 1024;

export interface SseEvent {
  /** As it goes to a client: `data: …` in lines that end with LF, and an empty line. Comments and other fields are gone. */
  readonly bytes: Uint8Array;
  /** The value of `data`, its lines joined by LF. */
  readonly data: Uint8Array;
}

const LF = 10;
const CR = 13;
const SPACE = 32;
const DATA_PREFIX = Buffer.from("data: ");
const DATA_FIELD = Buffer.from("data");
const BYTE_ORDER_MARK = Uint8Array.of(0xef, 0xbb, 0xbf);
const EMPTY = new Uint8Array();

export class SseSplitter {
  /** Bytes of an event that is not whole yet, in a buffer that grows by doubling. */
  #held: Uint8Array = EMPTY;
  #heldBytes = 0;
  /** Offsets from the start of the unfinished event: its current line, and where the search for its end goes on. */
  #lineStart = 0;
  #searchFrom = 0;
  #begun = false;
  readonly #eventBytesMax: number;

  constructor(eventBytesMax = EVENT_BYTES_MAX) {
    this.#eventBytesMax = eventBytesMax;
  }

  /**
   * The events that end within `chunk`, in order. Their bytes may be views of `chunk`: whoever keeps them longer than it
   * copies. Throws `upstream_failed` for an event of more than `eventBytesMax`.
   */
  push(chunk: Uint8Array): SseEvent[] {
    const joined = this.#heldBytes > 0;
    const bytes = joined ? this.#append(chunk) : chunk;
    const events: SseEvent[] = [];
    let start = 0;
    let lineStart = this.#lineStart;
    let searchFrom = this.#searchFrom;
    for (;;) {
      const lineFeed = bytes.indexOf(LF, searchFrom);
      if (lineFeed < 0) break;
      searchFrom = lineFeed + 1;
      const isEmpty = lineFeed === lineStart || (lineFeed === lineStart + 1 && bytes[lineStart] === CR);
      lineStart = searchFrom;
      if (!isEmpty) continue;
      if (lineFeed - start < 2) {
        start = searchFrom; // an empty line by itself: there may be a flood of them
        this.#begun = true;
        continue;
      }
      const block = bytes.subarray(start, lineFeed + 1);
      const event = eventOf(!this.#begun && startsWith(block, BYTE_ORDER_MARK) ? block.subarray(3) : block);
      this.#begun = true;
      start = searchFrom;
      if (event) events.push(event);
    }
    this.#keep(bytes, start);
    this.#lineStart = lineStart - start;
    this.#searchFrom = bytes.length - start;
    return events;
  }

  /** What the end of the bytes leaves: some servers send no empty line after their last event. */
  end(): SseEvent[] {
    return this.#heldBytes === 0 ? [] : this.push(Buffer.from("\n\n"));
  }

  #append(chunk: Uint8Array): Uint8Array {
    const size = this.#heldBytes + chunk.length;
    if (size > this.#held.length) {
      const grown = new Uint8Array(Math.max(size, 2 * this.#held.length));
      grown.set(this.#held.subarray(0, this.#heldBytes));
      this.#held = grown;
    }
    this.#held.set(chunk, this.#heldBytes);
    return this.#held.subarray(0, size);
  }

  /** Keeps what follows `start`. Events that were cut out of the held buffer are views of it: it is not used again. */
  #keep(bytes: Uint8Array, start: number): void {
    const size = bytes.length - start;
    if (size > this.#eventBytesMax) throw new AppError("upstream_failed", "The model server sent too large an event.");
    const inPlace = start === 0 && bytes.buffer === this.#held.buffer;
    this.#heldBytes = size;
    if (!inPlace) this.#held = size === 0 ? EMPTY : bytes.slice(start);
  }
}

/** The event in `block`, which ends with its empty line; null where it has no data. */
function eventOf(block: Uint8Array): SseEvent | null {
  const firstEnd = block.indexOf(LF);
  // What every model server sends: one line of data, LF, LF. It goes on as it is.
  if (firstEnd === block.length - 2 && startsWith(block, DATA_PREFIX) && block[firstEnd - 1] !== CR) {
    return firstEnd === DATA_PREFIX.length
      ? null
      : { bytes: block, data: block.subarray(DATA_PREFIX.length, firstEnd) };
  }
  const values: Uint8Array[] = [];
  for (let at = 0; at < block.length; ) {
    const end = block.indexOf(LF, at);
    const line = block.subarray(at, end > at && block[end - 1] === CR ? end - 1 : end);
    const value = dataOf(line);
    if (value) values.push(value);
    at = end + 1;
  }
  if (values.length === 0) return null;
  const lines: Uint8Array[] = [];
  const data: Uint8Array[] = [];
  const lineFeed = Uint8Array.of(LF);
  for (const value of values) {
    lines.push(DATA_PREFIX, value, lineFeed);
    data.push(...(data.length > 0 ? [lineFeed, value] : [value]));
  }
  const joined = Buffer.concat(data);
  // Data that is empty is no message to a model's client: the official SDKs throw on it.
  return joined.length === 0 ? null : { bytes: Buffer.concat([...lines, lineFeed]), data: joined };
}

/** The value of a `data` line, without the one space that may follow the colon; null for other lines. */
function dataOf(line: Uint8Array): Uint8Array | null {
  if (!startsWith(line, DATA_FIELD)) return null;
  if (line.length === DATA_FIELD.length) return EMPTY;
  if (line[DATA_FIELD.length] !== 58) return null; // a longer name
  const from = DATA_FIELD.length + 1;
  return line.subarray(line[from] === SPACE ? from + 1 : from);
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  if (bytes.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[i] !== prefix[i]) return false;
  return true;
}
