// A fault in a stream of server-sent events: reads the events of the whole answer and yields the bytes of the broken
// one. Called by inject.ts. It throws a SocketCut where the socket is to be reset; whatever ends early cancels the
// source.
import type { FaultSpec } from "./fault.ts";
import { pause } from "./pause.ts";

export type Json = Readonly<Record<string, unknown>>;

/** `data: {…}`; the JSON is null for [DONE], comments and what is no JSON. */
interface StreamEvent {
  readonly text: string;
  readonly json: Json | null;
}

export async function* faultEvents(
  source: ReadableStream<Uint8Array>,
  fault: FaultSpec,
  gone: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = source.getReader();
  const leave = (): void => void reader.cancel().catch(() => {});
  gone.addEventListener("abort", leave, { once: true });
  try {
    yield* inWrites(brokenEvents(eventsOf(reader), fault, gone), fault);
  } finally {
    gone.removeEventListener("abort", leave);
    await reader.cancel().catch(() => {});
  }
}

async function* eventsOf(reader: {
  read(): Promise<{ value?: Uint8Array | undefined; done: boolean }>;
}): AsyncGenerator<StreamEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const texts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = texts.pop() ?? "";
    for (const text of texts) yield { text, json: jsonOf(text) };
  }
}

function jsonOf(text: string): Json | null {
  const data = text.startsWith("data: {") ? text.slice("data: ".length) : null;
  return data === null ? null : (JSON.parse(data) as Json);
}

const eventOf = (json: Json): string => `data: ${JSON.stringify(json)}`;
const DONE = "data: [DONE]";

/** A chunk that brings something of the answer, and not only a role, a reason or a count: of sound or a picture a part. */
function isToken(json: Json | null): boolean {
  if (typeof json?.type === "string") return /\.(delta|partial_image|completed)$/.test(json.type);
  const choices = Array.isArray(json?.choices) ? (json.choices as Json[]) : [];
  return choices.some(({ delta, text }) => {
    const { content, reasoning, tool_calls } = (delta ?? {}) as Json;
    return Boolean(content || reasoning || text) || (Array.isArray(tool_calls) && tool_calls.length > 0);
  });
}

async function* brokenEvents(
  events: AsyncGenerator<StreamEvent>,
  fault: FaultSpec,
  gone: AbortSignal,
): AsyncGenerator<string> {
  let tokens = 0;
  let fired = false;
  for await (const event of events) {
    if (gone.aborted) return;
    const token = isToken(event.json);
    if (token && tokens > 0 && fault.itl_ms !== undefined) await pause(fault.itl_ms, gone);
    // After so many tokens: with the next event that is one, or with whatever comes once there are enough.
    const due = !fired && tokens >= (fault.after ?? 0) && (token || tokens > 0);
    if (due) {
      fired = true;
      yield* inserted(event, fault);
      if (fault.stall_ms !== undefined) await pause(fault.stall_ms, gone);
      if (fault.hang) await pause(Number.POSITIVE_INFINITY, gone);
      if (gone.aborted || fault.end) return;
      if (fault.cut) await cutSocket();
      if (fault.abort && event.json) {
        yield eventOf(abortedObject(event.json, true));
        if (!fault.no_done) yield DONE;
        return;
      }
      if (fault.error) {
        yield eventOf(errorObject(fault));
        if (!fault.no_done) yield DONE;
        return;
      }
    }
    if (token) tokens++;
    const text = withoutUsage(event, fault);
    if (text === null) continue;
    yield due && fault.malformed ? text.slice(0, Math.max("data: {".length, text.length >> 1)) : text;
    if (due && fault.duplicate) yield text;
  }
}

/** The socket is to be reset. */
export class SocketCut extends Error {
  override readonly name = "SocketCut";
}

/** Throws a SocketCut, once what was written has left the process: a reset takes along what has not. */
export async function cutSocket(): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, FLUSH_MS));
  throw new SocketCut("cut on purpose");
}

const FLUSH_MS = 5;

function* inserted({ json }: StreamEvent, { comments = 0, empty_choices }: FaultSpec): Generator<string> {
  for (let count = 0; count < comments; count++) yield ": comment";
  if (empty_choices && json !== null) {
    const { usage: _, ...rest } = json;
    yield eventOf({ ...rest, choices: [] });
  }
}

/** The event's text with the usage that the fault wants; null where nothing of it is left. */
function withoutUsage({ text, json }: StreamEvent, fault: FaultSpec): string | null {
  if (text === DONE) return fault.no_done ? null : text;
  if (json === null || !(fault.no_usage || fault.wrong_usage) || !json.usage) return text;
  const changed = withUsage(json, fault);
  const isUsageAlone = Array.isArray(changed.choices) && changed.choices.length === 0;
  return fault.no_usage && isUsageAlone ? null : eventOf(changed);
}

/** Bytes as they are to be written: an event each, several together, or pieces that end anywhere. */
async function* inWrites(
  events: AsyncGenerator<string>,
  { crlf, merge = 1, split }: FaultSpec,
): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  const lineEnd = crlf ? "\r\n" : "\n";
  let waiting: string[] = [];
  for await (const event of events) {
    waiting.push(event.replaceAll("\n", lineEnd) + lineEnd + lineEnd);
    if (waiting.length < merge) continue;
    const bytes = encoder.encode(waiting.join(""));
    waiting = [];
    if (split === undefined) yield bytes;
    else yield* inPieces(bytes, split);
  }
  if (waiting.length > 0) yield encoder.encode(waiting.join(""));
}

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes.length; from += size) {
    yield bytes.slice(from, from + size);
    await new Promise((resolve) => setImmediate(resolve)); // else the server writes them together
  }
}

/** vLLM's error as an event of a stream has it. */
export const errorObject = ({ message = "The engine failed while it generated." }: FaultSpec): Json => ({
  error: { message, type: "InternalServerError", param: null, code: 500 },
});

/** The object with all of its choices given up; of the chunk of a stream without its text. */
export function abortedObject(object: Json, isChunk: boolean): Json {
  if (!Array.isArray(object.choices)) return object;
  const choices = (object.choices as Json[]).map((choice) => ({
    ...choice,
    ...("delta" in choice && { delta: {} }),
    ...("text" in choice && isChunk && { text: "" }),
    finish_reason: "abort",
    stop_reason: null,
  }));
  return { ...object, choices };
}

/** The object with its usage left out or wrong, as the fault says. */
export function withUsage(object: Json, fault: FaultSpec): Json {
  const { usage, ...rest } = object;
  if (typeof usage !== "object" || usage === null) return object;
  if (fault.no_usage) return rest;
  if (!fault.wrong_usage) return object;
  const { prompt_tokens: prompt = 0, completion_tokens: completion = 0 } = usage as Readonly<Record<string, number>>;
  const wrong = completion * 2 + 1;
  return { ...rest, usage: { ...usage, completion_tokens: wrong, total_tokens: prompt + wrong } };
}
