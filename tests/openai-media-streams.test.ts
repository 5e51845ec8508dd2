// Streams of transcripts, speech and pictures through the whole service: OpenAI's SDK with its typed events, whatever
// form the server's own stream has, and whether it has one.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type OpenAI from "openai";
import { toFile } from "openai";
import { type LlmStack, model, startLlmStack } from "./llm-stack.ts";

let all: LlmStack;
let client: OpenAI;

beforeAll(async () => {
  all = await startLlmStack();
  client = all.client;
});
afterAll(() => all.stop());

const input = "The mill stands by the river. It grinds slowly.";

async function recording(): Promise<File> {
  const speech = await client.audio.speech.create({ model, voice: "alloy", input, response_format: "wav" });
  return toFile(Buffer.from(await speech.arrayBuffer()), "mill.wav", { type: "audio/wav" });
}

test("a transcript comes in OpenAI's events, with its usage", async () => {
  const stream = await client.audio.transcriptions.create({ model, file: await recording(), stream: true });
  const events = await Array.fromAsync(stream);
  const deltas = events.flatMap((event) => (event.type === "transcript.text.delta" ? [event.delta] : []));
  expect(deltas.length).toBeGreaterThan(3);
  expect(deltas.join("")).toBe(input);
  const [last] = events.slice(-1);
  expect(last).toMatchObject({ type: "transcript.text.done", text: input, usage: { type: "tokens" } });
  expect(events).toHaveLength(deltas.length + 1);
});
