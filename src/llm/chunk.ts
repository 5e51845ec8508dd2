// What one event of a streamed chat or completion means: content, an end, usage, an error. stream-answer.ts asks it once
// for each event, so it looks and copies nothing. A model server is a stranger: any JSON may come. Streams of sound,
// transcripts and pictures are read by media-events.ts.
import type { TokenUsage } from "./llm.ts";
import { usageOf } from "./usage-count.ts";

/** OpenAI's limit on `n`, and what its SDK takes. */
const CHOICE_INDEX_MAX = 127;

/** The finish reason by which vLLM and SGLang say that they gave an answer up, as when they are put to sleep. */
export const ABORTED = "abort";

export interface Chunk {
  readonly kind: "chunk" | "done" | "error" | "malformed";
  /** Something that a client would show: not a role alone. */
  readonly content: boolean;
  /** At least; a server may put several into one event without saying so. */
  readonly tokens: number;
  readonly usage: TokenUsage | null;
  /** Nothing but usage: sent because we asked for it. */
  readonly usageOnly: boolean;
  /** HTTP status that an error claims; 0 for none. */
  readonly errorStatus: number;
  /** What goes on instead of the event; empty: nothing. Absent: the event as it came. */
  readonly bytes?: Uint8Array;
}

/** Follows the events of one stream. */
export interface EventReader {
  read(data: Uint8Array): Chunk;
  /** Whether the stream may end now. */
  readonly complete: boolean;
  /** What ends the answer, once it is complete; empty: nothing. */
  last(): Uint8Array;
}

const DONE = Buffer.from("data: [DONE]\n\n");

export class ChunkReader implements EventReader {
  readonly #begun = new Set<number>();
  readonly #finished = new Set<number>();

  /** Every choice that began has its `finish_reason`. */
  get complete(): boolean {
    return this.#finished.size > 0 && this.#finished.size === this.#begun.size;
  }

  last(): Uint8Array {
    return DONE;
  }

  read(data: Uint8Array): Chunk {
    // As Latin-1: keys and numbers are ASCII, and of texts only their presence counts. Three times as fast as UTF-8.
    const bytes = data instanceof Buffer ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const text = bytes.toString("latin1");
    if (text === "[DONE]") return doneChunk;
    const event = objectIn(text);
    if (event === null) return malformedChunk;
    return event.error === undefined || event.error === null ? this.#choices(event) : errorChunk(event.error);
  }

  #choices(event: Readonly<Record<string, unknown>>): Chunk {
    const choices = Array.isArray(event.choices) ? event.choices : [];
    const usage = event.usage === undefined || event.usage === null ? null : usageOf(event.usage);
    let tokens = 0;
    let content = false;
    for (const choice of choices as (Record<string, unknown> | null)[]) {
      if (typeof choice !== "object" || choice === null) continue;
      const index = Number(choice.index ?? 0);
      if (!(index >= 0 && index <= CHOICE_INDEX_MAX)) return malformedChunk;
      this.#begun.add(index);
      if (choice.finish_reason === ABORTED) return errorChunk({});
      const finished = choice.finish_reason !== undefined && choice.finish_reason !== null;
      const said = saysSomething(choice);
      if (said) tokens += Array.isArray(choice.token_ids) ? choice.token_ids.length : 1;
      if (said || finished) content = true;
      if (finished) this.#finished.add(index);
    }
    const usageOnly = choices.length === 0 && usage !== null;
    return { kind: "chunk", content, tokens, usage, usageOnly, errorStatus: 0 };
  }
}

/** Null for what is no JSON object. */
export function objectIn(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

const none = { content: false, tokens: 0, usage: null, usageOnly: false, errorStatus: 0 };
export const doneChunk: Chunk = { ...none, kind: "done" };
export const malformedChunk: Chunk = { ...none, kind: "malformed" };

/** `error` as the server put it into an event. */
export function errorChunk(error: unknown): Chunk {
  const { code, status, type } = (typeof error === "object" ? error : {}) as Record<string, unknown>;
  const named = type === "overloaded_error" || type === "rate_limit_error" ? 429 : 0;
  const claimed = [code, status].find(
    (value) => Number.isInteger(value) && Number(value) >= 400 && Number(value) < 600,
  );
  return { ...none, kind: "error", errorStatus: Number(claimed ?? named) };
}

/** Whether a choice's delta (chat) or text (completions) holds anything but a role. */
function saysSomething(choice: Record<string, unknown>): boolean {
  if (typeof choice.text === "string") return choice.text !== "";
  const { delta } = choice;
  if (typeof delta !== "object" || delta === null) return false;
  for (const name in delta) {
    if (name === "role") continue;
    const value = (delta as Record<string, unknown>)[name];
    if (value !== null && value !== undefined && value !== "" && !(Array.isArray(value) && value.length === 0))
      return true;
  }
  return false;
}
