// Streams of transcripts, speech and pictures through the whole service: OpenAI's SDK with its typed events, what breaks
// off in the middle, and what a client that leaves frees. What becomes of each form that a server may answer in is
// tested beside src/llm/media-answer.ts.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type OpenAI from "openai";
import { APIError, BadRequestError, toFile } from "openai";
import { Stream } from "openai/streaming";
import { readExposition } from "./exposition.ts";
import { type LlmStack, model, otherModels, startLlmStack } from "./llm-stack.ts";

let all: LlmStack;
let client: OpenAI;

beforeAll(async () => {
  // A token takes time: what leaves before the end can be told from what waits for it.
  all = await startLlmStack({}, { profile: "8b-h100", speedup: 2 });
  client = all.client;
});
afterAll(() => all.stop());

const input = "The mill stands by the river. It grinds slowly.";
const spoken = { model, voice: "alloy", input } as const;
const faults = (text: string): object => ({ vllm_xargs: { sim_fault: text } });

async function recording(): Promise<File> {
  const speech = await client.audio.speech.create({ ...spoken, response_format: "wav" });
  return toFile(Buffer.from(await speech.arrayBuffer()), "mill.wav", { type: "audio/wav" });
}

/** Of a whole call that failed, or of the stream that it opened. */
async function errorOf(work: PromiseLike<unknown>): Promise<unknown> {
  return work.then(
    () => null,
    (error: unknown) => error,
  );
}

const idle = (): Promise<true> =>
  all.stack.until("the engine is free", 2_000, async () => (all.sim.inflight() === 0 ? true : null));

test("a transcript comes in OpenAI's events, with its usage", async () => {
  const stream = await client.audio.transcriptions.create({ model, file: await recording(), stream: true });
  const events = await Array.fromAsync(stream);
  const deltas = events.flatMap((event) => (event.type === "transcript.text.delta" ? [event.delta] : []));
  expect(deltas.length).toBeGreaterThan(3);
  expect(deltas.join("")).toBe(input);
  const last = events.at(-1);
  if (last?.type !== "transcript.text.done") throw new Error("no end");
  const { input_tokens = 0, output_tokens = 0, total_tokens } = last.usage ?? {};
  expect([last.text, last.usage?.type, total_tokens]).toEqual([input, "tokens", input_tokens + output_tokens]);
  expect(output_tokens).toBeGreaterThan(3);
  expect(events).toHaveLength(deltas.length + 1);
});

test("speech reaches its listener before it is whole", async () => {
  const response = await client.audio.speech.create({ ...spoken, response_format: "wav" });
  expect(response.headers.get("content-type")).toBe("audio/wav");
  const pieces: Uint8Array[] = [];
  for await (const piece of response.body ?? []) {
    if (pieces.length === 0) expect(all.sim.inflight()).toBe(1);
    pieces.push(piece);
  }
  const straight = await fetch(`${all.sim.url}/v1/audio/speech`, { method: "POST", body: JSON.stringify(spoken) });
  expect(Buffer.concat(pieces).equals(Buffer.from(await straight.arrayBuffer()))).toBeTrue();
});

interface SpeechEvent {
  readonly type: string;
  readonly audio?: string;
  readonly usage?: { readonly total_tokens: number };
}

test("speech comes as events, of which the sound can be put together", async () => {
  const request = { ...spoken, response_format: "pcm" } as const;
  const sound = Buffer.from(await (await client.audio.speech.create(request)).arrayBuffer());
  const response = await client.audio.speech.create({ ...request, stream_format: "sse" });
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const events = await Array.fromAsync(Stream.fromSSEResponse<SpeechEvent>(response, new AbortController()));
  const deltas = events.filter(({ type }) => type === "speech.audio.delta");
  expect(Buffer.concat(deltas.map(({ audio = "" }) => Buffer.from(audio, "base64"))).equals(sound)).toBeTrue();
  expect(deltas.length).toBeGreaterThan(3);
  expect(events.at(-1)).toMatchObject({ type: "speech.audio.done", usage: { total_tokens: expect.any(Number) } });
});

test("a picture is seen while it is drawn", async () => {
  const request = { model, prompt: "a red mill", size: "256x256", n: 2 } as const;
  const whole = await client.images.generate(request);
  const stream = await client.images.generate({ ...request, stream: true, partial_images: 2 });
  const events = await Array.fromAsync(stream);
  const parts = events.filter(({ type }) => type === "image_generation.partial_image");
  const done = events.filter(({ type }) => type === "image_generation.completed");
  expect([parts.length, done.length]).toEqual([4, 2]);
  expect(done.map(({ b64_json }) => b64_json)).toEqual((whole.data ?? []).map(({ b64_json = "" }) => b64_json));
  const raw = await all.stack.call("POST", "/v1/images/generations", { ...request, n: 1, stream: true });
  const text = await raw.text();
  expect(text).toStartWith("event: image_generation.completed\ndata: {");
  expect(text).not.toContain("[DONE]");
});

test("what breaks off is an error in each, and never the end", async () => {
  const [broken] = otherModels;
  const cut = faults("after=2; cut");
  const file = await recording();
  const vllm_xargs = JSON.stringify({ sim_fault: "after=2; cut" });
  const transcription = { model: broken, file, stream: true, vllm_xargs } as const;
  const heard = await client.audio.transcriptions.create(transcription);
  expect(await errorOf(Array.fromAsync(heard))).toMatchObject({ code: "upstream_failed" });
  const sse = await client.audio.speech.create({ ...spoken, model: broken, stream_format: "sse", ...cut });
  const events = Stream.fromSSEResponse<SpeechEvent>(sse, new AbortController());
  const error = await errorOf(Array.fromAsync(events));
  expect([error instanceof APIError, (error as APIError).code]).toEqual([true, "upstream_failed"]);
  const pictures = { model: broken, prompt: "a mill", size: "32x32", stream: true, partial_images: 3, ...cut } as const;
  const drawn = await client.images.generate(pictures);
  expect(await errorOf(Array.fromAsync(drawn))).toMatchObject({ code: "upstream_failed" });
  // Sound has no word for it: its connection is reset, as a client must not take the half for the whole.
  const half = await client.audio.speech.create({ ...spoken, model: broken, ...cut });
  expect(await errorOf(half.arrayBuffer())).toBeInstanceOf(Error);
});

test("each is counted with its tokens; sound, whose tokens nobody tells, by its text", async () => {
  const [, counted] = otherModels;
  const transcript = await client.audio.transcriptions.create({
    model: counted,
    file: await recording(),
    stream: true,
  });
  const drawn = await client.images.generate({ model: counted, prompt: "a mill", size: "32x32", stream: true });
  const said = await client.audio.speech.create({ ...spoken, model: counted, stream_format: "sse" });
  const events = [
    ...(await Array.fromAsync(transcript)),
    ...(await Array.fromAsync(drawn)),
    ...(await Array.fromAsync(Stream.fromSSEResponse<SpeechEvent>(said, new AbortController()))),
  ];
  const told = events.flatMap((event) => ("usage" in event && event.usage ? [event.usage.total_tokens] : []));
  expect(told).toHaveLength(3);
  await (await client.audio.speech.create({ ...spoken, model: counted })).arrayBuffer();
  const total = told.reduce((sum, tokens) => sum + tokens, Math.ceil(input.length / 4));
  await all.stack.until("the usage is written", 5_000, async () => {
    const { data } = (await (await all.stack.call("GET", "/v1/usage?group_by=model")).json()) as {
      data: readonly Readonly<Record<string, unknown>>[];
    };
    const row = data.find(({ model }) => model === counted);
    if (row?.requests !== 4) return null;
    expect(Number(row.prompt_tokens) + Number(row.completion_tokens)).toBe(total);
    return true;
  });
  const metrics = readExposition(await (await all.stack.call("GET", "/metrics")).text());
  const ended = (endpoint: string): number =>
    metrics.value("ai_requests_total", `model="${counted}",endpoint="${endpoint}",status="success"`);
  expect(["audio/transcriptions", "audio/speech", "images/generations"].map(ended)).toEqual([1, 2, 1]);
});

test("what the server refuses has a status", async () => {
  const refused = { model, file: await recording(), stream: true, response_format: "srt" } as const;
  expect(await errorOf(client.audio.transcriptions.create(refused))).toBeInstanceOf(BadRequestError);
  const mute = { ...spoken, input: " ", stream_format: "sse" } as const;
  expect(await errorOf(client.audio.speech.create(mute))).toBeInstanceOf(BadRequestError);
});

test("whoever leaves in the middle frees the server", async () => {
  const long = { ...spoken, input: input.repeat(80) }; // six seconds, if nobody ends it
  for (const asked of [long, { ...long, stream_format: "sse" } as const]) {
    const leaving = new AbortController();
    const response = await client.audio.speech.create(asked, { signal: leaving.signal });
    await response.body?.getReader().read();
    expect(all.sim.inflight()).toBe(1);
    leaving.abort();
    await idle();
  }
});
