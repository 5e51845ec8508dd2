// What one event of a streamed transcript, speech or picture means, and OpenAI's words for it: vLLM streams transcripts
// as chunks with choices, and a client gets OpenAI's events from either. stream-answer.ts asks for each event. Of sounds
// and pictures it decodes nothing. A model server is a stranger: any JSON may come.
import { AppError } from "../errors.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import { ABORTED, type Chunk, doneChunk, type EventReader, errorChunk, malformedChunk, objectIn } from "./chunk.ts";
import type { TokenUsage } from "./llm.ts";
import { usageOf } from "./usage-count.ts";

type Event = Readonly<Record<string, unknown>>;

/** Of the text that an answer's last event repeats: some days of speech. What sends more has no end. */
const TRANSCRIPT_CHARS_MAX = 4 * 1024 * 1024;
const EMPTY = new Uint8Array();

/** Sound, transcripts and pictures; what else streams is tokens alone. */
export const isMedia = (endpoint: LlmEndpoint): boolean =>
  endpoint === "audio/transcriptions" || endpoint === "audio/speech" || endpoint === "images/generations";

/** `pictures` is how many were asked for; `promptEstimate` stands for tokens that a server does not tell. */
export function mediaReader(endpoint: LlmEndpoint, promptEstimate: number, pictures: number): EventReader {
  if (endpoint === "audio/transcriptions") return new TranscriptReader();
  return endpoint === "audio/speech" ? new SpeechReader(promptEstimate) : new PictureReader(pictures);
}

/** An event as OpenAI sends it; `name` is for those that have one beside their type. */
export const eventBytes = (event: object, name = ""): Uint8Array =>
  Buffer.from(`${name === "" ? "" : `event: ${name}\n`}data: ${JSON.stringify(event)}\n\n`);

/** An event of one of OpenAI's types, or a Chunk for what is none. */
function typedEvent(data: Uint8Array, encoding: "latin1" | "utf8"): Chunk | { readonly event: Event; type: string } {
  const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString(encoding);
  if (text === "[DONE]") return doneChunk;
  const event = objectIn(text);
  if (event === null) return malformedChunk;
  const type = typeof event.type === "string" ? event.type : "";
  if ((event.error ?? null) !== null) return errorChunk(event.error);
  return /(^|\.)error$/.test(type) ? errorChunk(event) : { event, type };
}

const passed = (over: Partial<Chunk>): Chunk => ({
  kind: "chunk",
  content: true,
  tokens: 1,
  usage: null,
  usageOnly: false,
  errorStatus: 0,
  ...over,
});

/** OpenAI's events go on as they are; of vLLM's chunks they are made. */
class TranscriptReader implements EventReader {
  #text = "";
  #usage: TokenUsage | null = null;
  /** The server has said the last event itself. */
  #told = false;
  /** vLLM ends each half minute of a long recording with a `finish_reason`, and the answer with `[DONE]` alone. */
  #finished = false;
  #done = false;

  get complete(): boolean {
    return this.#told || (this.#finished && this.#done);
  }

  read(data: Uint8Array): Chunk {
    const read = typedEvent(data, "utf8");
    if ("kind" in read) {
      if (read === doneChunk) this.#done = true;
      return read;
    }
    const { event, type } = read;
    if (Array.isArray(event.choices)) return this.#chunk(event, event.choices as readonly unknown[]);
    this.#told ||= type === "transcript.text.done";
    const content = type !== "transcript.text.delta" || event.delta !== "";
    return passed({ content, usage: usageOf(event.usage), tokens: type === "transcript.text.delta" ? 1 : 0 });
  }

  last(): Uint8Array {
    if (this.#told) return EMPTY;
    return eventBytes(transcriptEnd(this.#text, this.#usage ? tokensOf(this.#usage) : null));
  }

  #chunk(event: Event, choices: readonly unknown[]): Chunk {
    let said = "";
    for (const choice of choices) {
      if (typeof choice !== "object" || choice === null) return malformedChunk;
      const { delta, finish_reason } = choice as { readonly delta?: unknown; readonly finish_reason?: unknown };
      if (finish_reason === ABORTED) return errorChunk({});
      const content = (delta as { readonly content?: unknown } | null | undefined)?.content;
      if (typeof content === "string") said += content;
      this.#finished = (finish_reason ?? null) !== null;
    }
    this.#text += said;
    if (this.#text.length > TRANSCRIPT_CHARS_MAX) {
      throw new AppError("upstream_failed", "The model server's transcript has no end.", { retryAfterS: 1 });
    }
    const usage = usageOf(event.usage);
    this.#usage = usage ?? this.#usage;
    return passed({
      content: said !== "" || this.#finished,
      tokens: said === "" ? 0 : 1,
      usage,
      bytes: said === "" ? EMPTY : eventBytes(transcriptDelta(said)),
    });
  }
}

export const transcriptDelta = (delta: string): object => ({ type: "transcript.text.delta", delta });
export const transcriptEnd = (text: string, usage: unknown): object => ({
  type: "transcript.text.done",
  text,
  ...((usage ?? null) !== null && { usage }),
});

const tokensOf = ({ promptTokens, completionTokens }: TokenUsage): object => ({
  type: "tokens",
  input_tokens: promptTokens,
  output_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
});

class SpeechReader implements EventReader {
  complete = false;
  readonly #promptEstimate: number;

  constructor(promptEstimate: number) {
    this.#promptEstimate = promptEstimate;
  }

  read(data: Uint8Array): Chunk {
    const read = typedEvent(data, "latin1");
    if ("kind" in read) return read;
    const { event, type } = read;
    if (type !== "speech.audio.done") return passed({});
    this.complete = true;
    const usage = usageOf(event.usage);
    // OpenAI's clients take it for granted; not every server tells it.
    return passed({ tokens: 0, usage, ...(usage === null && { bytes: eventBytes(speechEnd(this.#promptEstimate)) }) });
  }

  last(): Uint8Array {
    return EMPTY;
  }
}

export const speechDelta = (sound: Uint8Array): object => ({
  type: "speech.audio.delta",
  audio: Buffer.from(sound.buffer, sound.byteOffset, sound.byteLength).toString("base64"),
});
/** Of a server that tells no usage: the text's estimate, and nothing for the sound. */
export const speechEnd = (promptEstimate: number): object => ({
  type: "speech.audio.done",
  usage: { input_tokens: promptEstimate, output_tokens: 0, total_tokens: promptEstimate },
});

export const PICTURE_DONE = "image_generation.completed";
const PICTURE_PART = "image_generation.partial_image";
const LF = 10;

class PictureReader implements EventReader {
  #left: number;
  #usage: TokenUsage | null = null;

  constructor(pictures: number) {
    this.#left = pictures;
  }

  /** Each picture that was asked for is there. */
  get complete(): boolean {
    return this.#left <= 0;
  }

  read(data: Uint8Array): Chunk {
    const read = typedEvent(data, "latin1");
    if ("kind" in read) return read;
    const { event, type } = read;
    if (type === PICTURE_DONE) {
      this.#left--;
      this.#add(usageOf(event.usage));
    }
    // OpenAI names these events beside their type, and some clients go by the name.
    const named = (type === PICTURE_DONE || type === PICTURE_PART) && data.indexOf(LF) < 0;
    const bytes = named && Buffer.concat([Buffer.from(`event: ${type}\ndata: `), data, Buffer.from("\n\n")]);
    return passed({ usage: type === PICTURE_DONE ? this.#usage : null, ...(bytes && { bytes }) });
  }

  last(): Uint8Array {
    return EMPTY;
  }

  /** Each picture tells its own. */
  #add(usage: TokenUsage | null): void {
    if (usage === null) return;
    const before = this.#usage ?? { promptTokens: 0, completionTokens: 0 };
    this.#usage = {
      promptTokens: before.promptTokens + usage.promptTokens,
      completionTokens: before.completionTokens + usage.completionTokens,
      cachedTokens: 0,
    };
  }
}
