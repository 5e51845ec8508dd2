import { afterAll, beforeAll, expect, test } from "bun:test";
import { testRunner } from "millrace/testing";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import imageGenerate from "./image-generate.ts";
import imageScoring from "./image-scoring.ts";
import imageScoringVlm from "./image-scoring-vlm.ts";
import speech from "./speech.ts";
import transcribe from "./transcribe.ts";

let simulator: Simulator;
const llm = (): { readonly baseUrl: string } => ({ baseUrl: simulator.url });
beforeAll(async () => {
  simulator = await startSimulator();
});
afterAll(() => simulator.stop());

test("a picture of the size that was asked for", async () => {
  const { output, files } = await testRunner(imageGenerate, { input: { prompt: "a mill", size: "96x64" }, llm: llm() });
  expect(output).toMatchObject({ size: [96, 64], model: "millrace-sim" });
  expect(files).toHaveLength(1);
  expect(files[0]?.file.contentType).toBe("image/png");
});

test("what is spoken can be written down again, however it comes", async () => {
  const text = "The mill turns slowly.";
  const { files } = await testRunner(speech, { input: { text }, llm: llm() });
  const bytes = files[0]?.file.bytes ?? new Uint8Array();
  expect(files[0]?.file.contentType).toBe("audio/wav");
  const url = "https://example.com/said.wav";
  for (const input of [{ audio_base64: Buffer.from(bytes).toString("base64") }, { audio_url: url, language: "en" }]) {
    const { output, deltas } = await testRunner(transcribe, { input, files: { [url]: bytes }, llm: llm() });
    expect(output).toMatchObject({ text, model: "millrace-sim" });
    expect((deltas as { text: string }[]).map((delta) => delta.text).join("")).toBe(text);
  }
});

test("what is no sound is not sent anywhere", async () => {
  const run = (input: object) => testRunner(transcribe, { input, llm: llm() });
  await expect(run({ audio_base64: "AAAA" })).rejects.toMatchObject({ code: "audio_unreadable", retryable: false });
  await expect(run({ audio_base64: "****" })).rejects.toMatchObject({ code: "audio_unreadable" });
  await expect(run({ audio_url: "https://example.com/other" })).rejects.toMatchObject({ code: "fetch_blocked" });
  await expect(run({ language: "en" })).rejects.toMatchObject({ code: "invalid_input" });
  const both = { audio_base64: "AAAA", audio_url: "https://example.com/a" };
  await expect(run(both)).rejects.toMatchObject({ code: "invalid_input" });
});

test("a vision model's verdict has the form of the measured one", async () => {
  const input = imageScoring.example;
  const measured = await testRunner(imageScoring, { input });
  const { output } = await testRunner(imageScoringVlm, { input, llm: llm() });
  const { reason, usage, model, ...scores } = output as Readonly<Record<string, unknown>>;
  expect(Object.keys(scores).sort()).toEqual(Object.keys(measured.output as object).sort());
  expect(scores).toMatchObject({ width: 8, height: 6 });
  expect(reason).toBeString();
  expect(usage).toMatchObject({ completion_tokens: expect.any(Number) });
  expect(model).toBe("millrace-sim");
});
