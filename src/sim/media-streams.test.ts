// Speech and pictures as they are made, over HTTP: what comes when, what a fault breaks, and what a client that leaves
// frees.
import { afterAll, beforeAll, expect, test } from "bun:test";
import sharp from "sharp";
import { until } from "../../tests/stack.ts";
import { type Simulator, startSimulator } from "./simulator.ts";

let simulator: Simulator;
let slow: Simulator;
beforeAll(async () => {
  simulator = await startSimulator();
  slow = await startSimulator({ profile: "8b-h100" });
});
afterAll(async () => {
  await simulator.stop();
  await slow.stop();
});

const post = (path: string, body: object, at: Simulator = simulator, signal?: AbortSignal): Promise<Response> =>
  fetch(`${at.url}/v1/${path}`, { method: "POST", body: JSON.stringify(body), ...(signal && { signal }) });

interface Event {
  readonly type?: string;
  readonly audio?: string;
  readonly b64_json?: string;
  readonly partial_image_index?: number;
  readonly usage?: { readonly input_tokens: number; readonly output_tokens: number; readonly total_tokens: number };
  readonly error?: { readonly message: string };
}

async function eventsOf(response: Promise<Response>): Promise<Event[]> {
  const text = await (await response).text();
  expect(text).not.toContain("[DONE]");
  return text
    .split("\n\n")
    .filter(Boolean)
    .map((event) => JSON.parse(event.replace(/^data: /, "")) as Event);
}

const input = "The mill stands by the river and grinds the corn of three villages.";
const soundOf = async (body: object, at?: Simulator): Promise<Buffer> =>
  Buffer.from(await (await post("audio/speech", body, at)).arrayBuffer());

test("speech leaves as it is made, and is the same in the end", async () => {
  const response = await post("audio/speech", { input }, slow);
  expect(response.headers.get("content-type")).toBe("audio/wav");
  const pieces: Uint8Array[] = [];
  for await (const piece of response.body ?? []) {
    if (pieces.length === 0) expect(slow.inflight()).toBe(1);
    pieces.push(piece);
  }
  expect(pieces.length).toBeGreaterThan(3);
  expect(Buffer.concat(pieces).equals(await soundOf({ input }))).toBeTrue();
});

test("a listener who leaves frees the engine", async () => {
  const client = new AbortController();
  const response = await post("audio/speech", { input: input.repeat(60) }, slow, client.signal);
  await response.body?.getReader().read();
  client.abort();
  await until("the engine is free", 2_000, async () => (slow.inflight() === 0 ? true : null));
});

test("speech as events, by stream_format or by stream", async () => {
  const sound = await soundOf({ input, response_format: "pcm" });
  for (const asked of [{ stream_format: "sse" }, { stream: true }, { stream: true, stream_format: "sse" }]) {
    const events = await eventsOf(post("audio/speech", { input, response_format: "pcm", ...asked }, slow));
    const deltas = events.slice(0, -1).map(({ type, audio = "" }) => {
      expect(type).toBe("speech.audio.delta");
      return Buffer.from(audio, "base64");
    });
    expect(deltas.length).toBeGreaterThan(3);
    expect(deltas.every(({ length }) => length % 2 === 0)).toBeTrue();
    expect(Buffer.concat(deltas).equals(sound)).toBeTrue();
    const { input_tokens = 0, output_tokens, total_tokens } = events.at(-1)?.usage ?? {};
    expect([events.at(-1)?.type, output_tokens, total_tokens]).toEqual([
      "speech.audio.done",
      input_tokens,
      2 * input_tokens,
    ]);
  }
  const raw = await post("audio/speech", { input, stream: true, stream_format: "audio" });
  expect(raw.headers.get("content-type")).toBe("audio/wav");
  expect((await post("audio/speech", { input, stream_format: "mp3" })).status).toBe(400);
});

test("pictures come coarse, then as they are, each with its usage", async () => {
  const asked = { prompt: "a red boat on a lake", n: 2, size: "320x160" };
  const whole = (await (await post("images/generations", asked)).json()) as { data: Event[]; usage: Event["usage"] };
  const events = await eventsOf(post("images/generations", { ...asked, stream: true, partial_images: 3 }, slow));
  const done = events.filter(({ type }) => type === "image_generation.completed");
  expect(done.map(({ b64_json }) => b64_json)).toEqual(whole.data.map(({ b64_json }) => b64_json));
  const total = done.reduce((sum, { usage }) => sum + (usage?.total_tokens ?? 0), 0);
  expect(total).toBe(whole.usage?.total_tokens ?? 0);
  const parts = events.filter(({ type }) => type === "image_generation.partial_image");
  expect(parts.map(({ partial_image_index }) => partial_image_index).sort()).toEqual([0, 0, 1, 1, 2, 2]);
  expect(new Set(events.map(({ b64_json }) => b64_json)).size).toBe(8);
  for (const { b64_json = "" } of events) {
    const { format, width, height } = await sharp(Buffer.from(b64_json, "base64")).metadata();
    expect([format, width, height]).toEqual(["png", 320, 160]);
  }
  const single = await eventsOf(post("images/generations", { ...asked, stream: true }));
  expect(single.map(({ type }) => type)).toEqual(["image_generation.completed", "image_generation.completed"]);
  expect((await post("images/generations", { ...asked, stream: true, partial_images: 4 })).status).toBe(400);
});

test("a fault counts parts of sound and pictures as tokens", async () => {
  const fault = { vllm_xargs: { sim_fault: "after=2; error; message=Broken.; no_done" } };
  const speech = { input, stream_format: "sse" };
  const pictures = { prompt: "a boat", size: "32x32", stream: true, partial_images: 3 };
  for (const [path, body] of [
    ["audio/speech", speech],
    ["images/generations", pictures],
  ] as const) {
    const events = await eventsOf(post(path, { ...body, ...fault }, slow));
    expect([events.length, events.at(-1)?.error?.message]).toEqual([3, "Broken."]);
  }
});

test("a transcript tells its usage at the end, or with each chunk, and nowhere else", async () => {
  const sound = new File([new Uint8Array(await soundOf({ input }))], "mill.wav");
  const hear = async (...fields: readonly string[]) => {
    const form = new FormData();
    for (const name of fields) form.append(name, "true");
    form.append("file", sound);
    const response = await fetch(`${simulator.url}/v1/audio/transcriptions`, { method: "POST", body: form });
    const chunks = [...(await response.text()).matchAll(/^data: (\{.*\})$/gm)].map(([, json]) =>
      JSON.parse(json ?? ""),
    );
    return { status: response.status, told: chunks.map(({ usage }) => usage?.completion_tokens) };
  };
  const { told: plain } = await hear("stream");
  expect(new Set(plain)).toEqual(new Set([undefined]));
  const count = plain.length;
  const last = await hear("stream", "stream_include_usage");
  expect([last.told.slice(0, -1), last.told.at(-1)]).toEqual([plain, count]);
  const each = await hear("stream", "stream_include_usage", "stream_continuous_usage_stats");
  expect(each.told).toEqual([...Array.from({ length: count }, (_, i) => i + 1), count]);
  expect((await hear("stream_include_usage")).status).toBe(400);
});
