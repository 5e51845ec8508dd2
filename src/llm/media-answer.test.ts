// What becomes of a model server's answer where sound, a transcript or pictures were asked for: whatever its form, a
// client gets OpenAI's events, or the sound itself.
import { expect, test } from "bun:test";
import { systemClock } from "../clock.ts";
import { asAppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import { AnswerRoom } from "./answer-room.ts";
import { Exchange } from "./exchange.ts";
import { openMedia } from "./media-answer.ts";
import { TryFailure } from "./try.ts";
import { Watchdog } from "./watchdog.ts";

const limits = { connectMs: 1_000, firstTokenMs: 1_000, betweenTokensMs: 1_000, totalMs: 5_000 };
const ROOM_BYTES = 1_000_000;

interface Asked {
  readonly endpoint: LlmEndpoint;
  readonly stream?: boolean;
  readonly n?: number;
  readonly room?: AnswerRoom;
}

const open = async (response: Response, asked: Asked) => (await opened(response, asked)).answer;

/** The answer, and what aborts when its socket is closed. */
async function opened(response: Response, { endpoint, stream = true, n, room = new AnswerRoom(ROOM_BYTES) }: Asked) {
  const watchdog = new Watchdog(systemClock);
  const exchange = new Exchange({
    signal: new AbortController().signal,
    deadlineMs: watchdog.now() + 5_000,
    limits,
    thinkingMs: 1_000,
    watchdog,
    requestId: "r",
    url: "",
    log: silentLog,
  });
  const body = { contentType: "application/json", bytes: Buffer.from(JSON.stringify({ n })) };
  const request = { endpoint, stream, streamUsage: false, promptEstimate: 7, body };
  const answer = await openMedia(response, exchange, request, room.hold()).catch((error: unknown) => {
    const failure = error instanceof TryFailure ? error.error : error;
    exchange.close();
    throw failure;
  });
  return { answer, signal: exchange.signal };
}

/** Everything that comes, the error's code where it ends in one. */
async function told(response: Response, asked: Asked) {
  const pieces: Uint8Array[] = [];
  const text = (): string => Buffer.concat(pieces).toString();
  try {
    const answer = await open(response, asked);
    for (let piece = await answer.read(); piece; piece = await answer.read()) pieces.push(piece);
    return { text: text(), contentType: answer.contentType, usage: answer.usage(), pieces, code: null };
  } catch (error) {
    return { text: text(), contentType: "", usage: null, pieces, code: asAppError(error)?.code ?? String(error) };
  }
}

const events = (...values: readonly unknown[]): string =>
  values.map((value) => `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`).join("");
const sse = (text: string): Response => new Response(text, { headers: { "content-type": "text/event-stream" } });
const sound = (body: string | Uint8Array<ArrayBuffer>): Response =>
  new Response(body, { headers: { "content-type": "audio/wav" } });

/** A body that breaks off after `text`. */
function broken(text: string, headers: Record<string, string>): Response {
  let sent = false;
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    if (sent) return controller.error(new Error("connection reset"));
    sent = true;
    controller.enqueue(Buffer.from(text));
  };
  return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), { headers });
}

const transcripts = { endpoint: "audio/transcriptions" } as const;
const delta = (text: string): object => ({ type: "transcript.text.delta", delta: text });
const chunk = (content: string, finish_reason: string | null = null): object => ({
  object: "transcription.chunk",
  choices: [{ delta: { content }, finish_reason }],
});
const usage = { prompt_tokens: 40, completion_tokens: 3, total_tokens: 43 };

test("vLLM's chunks become OpenAI's events; each half minute ends in the middle of the answer", async () => {
  const sent = [chunk("Die Mühle"), chunk("", "stop"), chunk(" steht"), chunk(".", "stop"), { choices: [], usage }];
  const heard = await told(sse(events(...sent, "[DONE]")), transcripts);
  const tokens = { type: "tokens", input_tokens: 40, output_tokens: 3, total_tokens: 43 };
  const end = { type: "transcript.text.done", text: "Die Mühle steht.", usage: tokens };
  expect(heard.text).toBe(events(delta("Die Mühle"), delta(" steht"), delta("."), end));
  expect(heard.usage).toEqual({ promptTokens: 40, completionTokens: 3, cachedTokens: 0 });
});

test("silence is a transcript too", async () => {
  const heard = await told(sse(events(chunk("", "stop"), "[DONE]")), transcripts);
  expect(heard.text).toBe(events({ type: "transcript.text.done", text: "" }));
});

test("OpenAI's own events go on as they are, and no [DONE] follows", async () => {
  const end = {
    type: "transcript.text.done",
    text: "ab",
    usage: { type: "tokens", input_tokens: 9, output_tokens: 2 },
  };
  const sent = events(delta("a"), { ...delta("b"), logprobs: [] }, { type: "transcript.text.segment", id: "s" }, end);
  for (const last of ["", events("[DONE]")]) {
    const heard = await told(sse(sent + last), transcripts);
    expect(heard).toMatchObject({ text: sent, usage: { promptTokens: 9, completionTokens: 2 } });
  }
});

test.each([
  ["vLLM's, without [DONE]", events(chunk("a"), chunk("b", "stop"))],
  ["vLLM's, without a finish", events(chunk("a"), "[DONE]")],
  ["vLLM's, given up", events(chunk("a"), chunk("", "abort"), "[DONE]")],
  ["OpenAI's, without its end", events(delta("a"), "[DONE]")],
  ["an error", events(delta("a"), { error: { message: "x" } }, "[DONE]")],
  ["an error by its type", events(delta("a"), { type: "transcript.text.error" })],
  ["what is no JSON", events(delta("a"), "{")],
])("a transcript that does not end as it should is an error: %s", async (_, sent) => {
  const heard = await told(sse(sent), transcripts);
  expect(heard.code).toBe("upstream_failed");
});

test("what came before a failure is read first", async () => {
  const text = events(delta("a"));
  const heard = await told(broken(text, { "content-type": "text/event-stream" }), transcripts);
  expect([heard.text, heard.code]).toEqual([text, "upstream_failed"]);
});

test("a whole transcript becomes a stream of one piece, from JSON or from text", async () => {
  const told1 = await told(Response.json({ text: "One ü.", usage: { type: "duration", seconds: 3 } }), transcripts);
  const end = { type: "transcript.text.done", text: "One ü." };
  expect(told1.contentType).toBe("text/event-stream");
  expect(told1.text).toBe(events(delta("One ü."), { ...end, usage: { type: "duration", seconds: 3 } }));
  const plain = new Response("One ü.\n", { headers: { "content-type": "text/plain; charset=utf-8" } });
  expect((await told(plain, transcripts)).text).toBe(events(delta("One ü."), end));
  expect((await told(Response.json({ words: 1 }), transcripts)).code).toBe("upstream_failed");
  const page = new Response("<html>", { headers: { "content-type": "text/html" } });
  expect((await told(page, transcripts)).code).toBe("upstream_failed");
});

const speech = { endpoint: "audio/speech" } as const;
const noise = Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * 7) % 251));

test("sound passes byte for byte in small pieces; its text is what it is charged", async () => {
  const heard = await told(sound(noise), { ...speech, stream: false });
  expect(Buffer.concat(heard.pieces).equals(noise)).toBeTrue();
  expect(Math.max(...heard.pieces.map(({ length }) => length))).toBeLessThan(16_385);
  expect(heard).toMatchObject({ contentType: "audio/wav", usage: { promptTokens: 7, completionTokens: 0 } });
});

test("sound that was asked for as events becomes events", async () => {
  const heard = await told(sound(noise), speech);
  const sent = heard.text
    .split("\n\n")
    .filter(Boolean)
    .map((event) => JSON.parse(event.slice("data: ".length)));
  const audio = sent.slice(0, -1).map((event) => Buffer.from(event.audio, "base64"));
  expect(new Set(sent.slice(0, -1).map(({ type }) => type))).toEqual(new Set(["speech.audio.delta"]));
  expect(Buffer.concat(audio).equals(noise)).toBeTrue();
  expect(sent.at(-1)).toEqual({
    type: "speech.audio.done",
    usage: { input_tokens: 7, output_tokens: 0, total_tokens: 7 },
  });
});

test("speech in events goes on as it is; where it tells no usage the text's estimate is told", async () => {
  const piece = { type: "speech.audio.delta", audio: "AAAA" };
  const full = { type: "speech.audio.done", usage: { input_tokens: 3, output_tokens: 5, total_tokens: 8 } };
  const heard = await told(sse(events(piece, full)), speech);
  expect(heard).toMatchObject({ text: events(piece, full), usage: { promptTokens: 3, completionTokens: 5 } });
  const bare = await told(sse(`event: speech.audio.done\n${events({ type: "speech.audio.done" }, "[DONE]")}`), speech);
  expect(bare.text).toBe(
    events({ type: "speech.audio.done", usage: { input_tokens: 7, output_tokens: 0, total_tokens: 7 } }),
  );
});

test.each([
  ["cut", () => broken("RIFF", { "content-type": "audio/wav" }), "RIFF"],
  ["empty", () => sound(""), ""],
  ["a page", () => new Response("<html>", { headers: { "content-type": "text/html" } }), ""],
  ["events that nobody asked for", () => sse(events({ type: "speech.audio.delta" })), ""],
])("sound that is none is an error: %s", async (_, response, text) => {
  const heard = await told(response(), { ...speech, stream: false });
  expect([heard.text, heard.code]).toEqual([text, "upstream_failed"]);
});

test("whoever wants no more closes the socket", async () => {
  const endless = (type: string): Response =>
    new Response(new ReadableStream({ pull: (controller) => controller.enqueue(Buffer.from(events(delta("a")))) }), {
      headers: { "content-type": type },
    });
  for (const [type, asked] of [
    ["audio/wav", speech],
    ["text/event-stream", transcripts],
  ] as const) {
    const { answer, signal } = await opened(endless(type), asked);
    answer.cancel();
    expect([type, signal.aborted, await answer.read()]).toEqual([type, true, null]);
  }
});

const pictures = { endpoint: "images/generations" } as const;
const part = { type: "image_generation.partial_image", b64_json: "AA==", partial_image_index: 0 };
const done = (tokens: number, b64_json = "AAAA"): object => ({
  type: "image_generation.completed",
  b64_json,
  usage: { input_tokens: tokens, output_tokens: 10, total_tokens: tokens + 10 },
});
const named = (event: object): string => `event: ${(event as { type: string }).type}\n${events(event)}`;

test("pictures keep the names of their events, and their tokens are added up", async () => {
  const heard = await told(sse(events(part, done(5), done(0), "[DONE]")), { ...pictures, n: 2 });
  expect(heard.text).toBe(named(part) + named(done(5)) + named(done(0)));
  expect(heard.usage).toEqual({ promptTokens: 5, completionTokens: 20, cachedTokens: 0 });
});

test("a picture that is missing at the end is an error", async () => {
  for (const sent of [events(part), events(done(5)), events(done(5), "[DONE]")]) {
    expect((await told(sse(sent), { ...pictures, n: 2 })).code).toBe("upstream_failed");
  }
});

test("a large picture goes on in small pieces, and its memory is given back", async () => {
  const room = new AnswerRoom(ROOM_BYTES);
  const text = events(done(5, "A".repeat(400_000)));
  for (let times = 0; times < 5; times++) {
    const heard = await told(sse(text), { ...pictures, room });
    expect(heard.text === `event: image_generation.completed\n${text}`).toBeTrue();
    expect(Math.max(...heard.pieces.map(({ length }) => length))).toBeLessThan(16_385);
  }
  for (let times = 0; times < 5; times++) (await open(sse(text), { ...pictures, room })).cancel();
  expect((await told(sse(text), { ...pictures, room })).code).toBeNull();
  expect((await told(sse(text), { ...pictures, room: new AnswerRoom(300_000) })).code).toBe("model_overloaded");
});

test("whole pictures become a stream of one piece, whose usage adds up; an address is none", async () => {
  const whole = { created: 1, size: "8x8", output_format: "png", usage: { input_tokens: 4, output_tokens: 9 } };
  const heard = await told(Response.json({ ...whole, data: [{ b64_json: "AAAA" }, { b64_json: "BBBB" }] }), pictures);
  const [first, last] = [...heard.text.matchAll(/^event: image_generation.completed\ndata: (.*)\n\n/gm)].map(
    ([, json]) => JSON.parse(json ?? ""),
  );
  expect(first).toMatchObject({ b64_json: "AAAA", created_at: 1, size: "8x8", usage: { total_tokens: 0 } });
  expect(last).toMatchObject({ b64_json: "BBBB", usage: { input_tokens: 4, output_tokens: 9 } });
  const addressed = Response.json({ data: [{ url: "http://10.0.0.7/x.png" }] });
  expect(await told(addressed, pictures)).toMatchObject({ text: "", code: "upstream_failed" });
});
