// What goes over the wire, byte for byte: one exchange a route against the transcript that was recorded of it, with the
// simulator behind the whole service. Ids, times and what is random are masked. After a change that is meant, record
// anew and read the difference: RECORD_TRANSCRIPTS=1 bun test tests/openai-transcripts.test.ts
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { type LlmStack, model, otherModels, startLlmStack } from "./llm-stack.ts";

const folder = join(import.meta.dir, "fixtures/openai");
const isRecording = process.env.RECORD_TRANSCRIPTS === "1";

let all: LlmStack;
beforeAll(async () => {
  all = await startLlmStack();
});
afterAll(() => all.stop());

const messages = [
  { role: "system", content: "The mill stands at the river. The wheel is turned by water." },
  { role: "user", content: "What turns the wheel?" },
];
const chat = { model, messages, max_tokens: 6, seed: 1 };
const stream = { stream: true, stream_options: { include_usage: true } };
const tool = {
  type: "function",
  function: {
    name: "open_gate",
    parameters: {
      type: "object",
      properties: { gate: { type: "string", enum: ["left", "right"] } },
      required: ["gate"],
      additionalProperties: false,
    },
  },
};
const calling = { model, messages, seed: 1, tools: [tool], tool_choice: "required" };
const verdict = {
  type: "object",
  properties: { ok: { type: "boolean" } },
  required: ["ok"],
  additionalProperties: false,
};
const format = { type: "json_schema", json_schema: { name: "verdict", strict: true, schema: verdict } };
const fault = (text: string) => ({ vllm_xargs: { sim_fault: text } });
const [broken] = otherModels;

/** The name of a transcript, the path below /v1, the body. */
const exchanges: readonly (readonly [name: string, path: string, body: object])[] = [
  ["chat", "chat/completions", chat],
  ["chat-stream", "chat/completions", { ...chat, ...stream }],
  ["chat-choices", "chat/completions", { ...chat, n: 2 }],
  ["chat-tools", "chat/completions", calling],
  ["chat-tools-stream", "chat/completions", { ...calling, stream: true }],
  ["chat-json-schema", "chat/completions", { ...chat, max_tokens: 64, response_format: format }],
  ["chat-guided-choice", "chat/completions", { ...chat, guided_choice: ["water", "wind"] }],
  ["chat-invalid", "chat/completions", { ...chat, n: 0 }],
  ["chat-unknown-model", "chat/completions", { ...chat, model: "no/such" }],
  ["chat-refused", "chat/completions", { ...chat, max_tokens: 10_000_000 }],
  ["chat-overloaded", "chat/completions", { ...chat, ...fault("status=429; retry_after=3") }],
  ["chat-stream-cut", "chat/completions", { ...chat, model: broken, stream: true, ...fault("after=2; cut") }],
  ["completion", "completions", { model, prompt: "The mill", max_tokens: 6, seed: 1 }],
  ["completion-stream", "completions", { model, prompt: "The mill", max_tokens: 6, seed: 1, ...stream }],
  ["embeddings", "embeddings", { model, input: ["a mill", "a race"], dimensions: 4 }],
  ["embeddings-base64", "embeddings", { model, input: "a mill", dimensions: 4, encoding_format: "base64" }],
  ["image", "images/generations", { model, prompt: "a mill", size: "64x64" }],
  ["speech", "audio/speech", { model, input: "The wheel turns.", voice: "alloy", response_format: "wav" }],
  ["speech-invalid", "audio/speech", { model, input: "" }],
  ["speech-stream", "audio/speech", { model, input: "The wheel turns.", voice: "alloy", stream_format: "sse" }],
  ["image-stream", "images/generations", { model, prompt: "a mill", size: "64x64", stream: true, partial_images: 1 }],
];

test.each(exchanges)("%s", async (name, path, body) => {
  const response = await all.stack.call("POST", `/v1/${path}`, body);
  await compare(name, `POST /v1/${path}\n${JSON.stringify(body, null, 2)}`, response);
});

test("transcription", async () => {
  const speech = { model, input: "The wheel turns.", voice: "alloy", response_format: "wav" };
  const sound = await (await all.stack.call("POST", "/v1/audio/speech", speech)).blob();
  for (const response_format of ["json", "text", "verbose_json", "stream"]) {
    const form = new FormData();
    form.append("model", model);
    if (response_format === "stream") form.append("stream", "true");
    else form.append("response_format", response_format);
    form.append("file", new File([sound], "wheel.wav", { type: "audio/wav" }));
    const headers = { "x-api-key": all.stack.key };
    const response = await fetch(`${all.stack.url}/v1/audio/transcriptions`, { method: "POST", headers, body: form });
    const how = response_format === "stream" ? "stream=true" : `response_format=${response_format}`;
    const asked = `POST /v1/audio/transcriptions\nmodel=${model}, ${how}, file=wheel.wav`;
    await compare(`transcription-${response_format}`, asked, response);
  }
});

/** Headers that are part of the contract. */
const shown = ["content-type", "cache-control", "x-accel-buffering", "x-should-retry", "retry-after", "retry-after-ms"];

async function compare(name: string, asked: string, response: Response): Promise<void> {
  const headers = shown.flatMap((header) => {
    const value = response.headers.get(header);
    return value === null ? [] : [`${header}: ${value}`];
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  const isText = /json|text/.test(response.headers.get("content-type") ?? "");
  const body = isText ? masked(bytes.toString()) : `(${bytes.length} bytes, SHA-256 ${Bun.SHA256.hash(bytes, "hex")})`;
  const transcript = `${asked}\n\n${response.status}\n${headers.join("\n")}\n\n${body}\n`;
  const file = Bun.file(join(folder, `${name}.txt`));
  if (isRecording) await file.write(transcript);
  expect(transcript).toBe(await file.text());
}

const masked = (text: string): string =>
  text
    .replaceAll(/"(created(?:_at)?)":\s*\d+/g, '"$1":0')
    .replaceAll(/"cached_tokens":\s*\d+/g, '"cached_tokens":0') // by what was asked before
    .replaceAll(/"id":\s*"(chatcmpl|cmpl|embd|chatcmpl-tool|call)-[^"]+"/g, '"id":"$1-masked"')
    .replaceAll(/"(b64_json|audio)":\s*"([^"]+)"/g, (_, name, data) => `"${name}":"(${data.length} characters)"`);
