// The simulator alone, as OpenAI's own client meets it: what works against a real server works against this one.
import { afterAll, beforeAll, expect, test } from "bun:test";
import OpenAI, { toFile } from "openai";
import sharp from "sharp";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";

let simulator: Simulator;
let openai: OpenAI;
const model = "org/some-model";
beforeAll(async () => {
  simulator = await startSimulator({ models: [model] });
  openai = new OpenAI({ baseURL: `${simulator.url}/v1`, apiKey: "any", maxRetries: 0 });
});
afterAll(() => simulator.stop());

const messages = [
  { role: "system", content: "You are Anna, 34. You have had chest pain since Monday." },
  { role: "user", content: "Since when do you have pain?" },
] as const;

test("models, by name and with a slash in it", async () => {
  const listed = await openai.models.list();
  expect(listed.data.map(({ id, owned_by }) => [id, owned_by])).toEqual([[model, "vllm"]]);
  expect((await openai.models.retrieve(model)).id).toBe(model);
});

test("chat, whole and as a stream, says that it is a simulator", async () => {
  const whole = await openai.chat.completions.create({ model, messages: [...messages] });
  expect(whole.system_fingerprint).toStartWith("millrace-sim-");
  expect(whole.choices[0]?.message.content).toContain("Monday");
  const stream = openai.chat.completions.stream({
    model,
    messages: [...messages],
    stream_options: { include_usage: true },
  });
  const final = await stream.finalChatCompletion();
  expect(final.choices[0]?.message.content).toBe(whole.choices[0]?.message.content ?? "");
  expect(final.usage?.completion_tokens).toBe(whole.usage?.completion_tokens ?? 0);
});

test("a tool is called with arguments that fit it, whole and in deltas", async () => {
  const request = {
    model,
    messages: [{ role: "user" as const, content: "What is the weather in Paris?" }],
    tools: [
      {
        type: "function" as const,
        function: {
          name: "get_weather",
          description: "The weather in a city",
          parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
        },
      },
    ],
    tool_choice: "required" as const,
  };
  const whole = await openai.chat.completions.create(request);
  const streamed = await openai.chat.completions.stream(request).finalChatCompletion();
  for (const { choices } of [whole, streamed]) {
    const call = choices[0]?.message.tool_calls?.[0];
    expect(choices[0]?.finish_reason).toBe("tool_calls");
    expect(call?.type === "function" && call.function.name).toBe("get_weather");
    expect(call?.type === "function" && JSON.parse(call.function.arguments)).toEqual({ city: expect.any(String) });
  }
});

test("an answer conforms to the schema that was asked for", async () => {
  const schema = {
    type: "object",
    properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 } },
    required: ["name", "age"],
    additionalProperties: false,
  };
  const { choices } = await openai.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Anna is 34 years old. Extract name and age." }],
    response_format: { type: "json_schema", json_schema: { name: "person", schema, strict: true } },
  });
  expect(JSON.parse(choices[0]?.message.content ?? "")).toEqual({ name: expect.any(String), age: expect.any(Number) });
});

test("embeddings: base64 by default, the same as floats, one for each input in order", async () => {
  const input = ["The mill stands by the river.", "Seven cats", "The mill is at the river."];
  const short = await openai.embeddings.create({ model, input, dimensions: 64 });
  const floats = await openai.embeddings.create({ model, input, dimensions: 64, encoding_format: "float" });
  expect(short.data.map(({ embedding }) => Array.from(embedding))).toEqual(
    floats.data.map(({ embedding }) => embedding),
  );
  expect(short.data.map(({ index, embedding }) => [index, embedding.length])).toEqual([
    [0, 64],
    [1, 64],
    [2, 64],
  ]);
  const near = (one: number, other: number): number =>
    (floats.data[one]?.embedding ?? []).reduce((sum, x, at) => sum + x * (floats.data[other]?.embedding[at] ?? 0), 0);
  expect(near(0, 2)).toBeGreaterThan(near(0, 1));
  expect(short.usage.prompt_tokens).toBe(short.usage.total_tokens);
  const tokenized = await fetch(`${simulator.url}/tokenize`, {
    method: "POST",
    body: JSON.stringify({ prompt: input[0] }),
  });
  const { tokens } = (await tokenized.json()) as { tokens: number[] };
  const byIds = await openai.embeddings.create({ model, input: [tokens], dimensions: 64 });
  expect(byIds.data[0]?.embedding).toEqual(short.data[0]?.embedding ?? []);
  expect((await openai.embeddings.create({ model, input: "one" })).data[0]?.embedding).toHaveLength(384);
});

test("pictures are PNGs of the size that was asked for", async () => {
  const { data = [], usage } = await openai.images.generate({ model, prompt: "a red boat", n: 2, size: "512x512" });
  expect(data).toHaveLength(2);
  expect(data[0]?.b64_json).not.toBe(data[1]?.b64_json ?? "");
  for (const { b64_json } of data) {
    const { format, width, height } = await sharp(Buffer.from(b64_json ?? "", "base64")).metadata();
    expect([format, width, height]).toEqual(["png", 512, 512]);
  }
  expect(usage?.total_tokens).toBe((usage?.input_tokens ?? 0) + (usage?.output_tokens ?? 0));
});

test("what was spoken is transcribed, in every form", async () => {
  const input = "The mill stands by the river. It grinds slowly.";
  const speech = await openai.audio.speech.create({ model, voice: "alloy", input });
  expect(speech.headers.get("content-type")).toBe("audio/wav");
  const bytes = Buffer.from(await speech.arrayBuffer());
  expect(bytes.toString("latin1", 0, 4)).toBe("RIFF");
  const file = await toFile(bytes, "speech.wav");
  const { transcriptions } = openai.audio;
  expect((await transcriptions.create({ model, file })).text).toBe(input);
  expect(String(await transcriptions.create({ model, file, response_format: "text" }))).toBe(`${input}\n`);
  expect(String(await transcriptions.create({ model, file, response_format: "srt" }))).toMatch(
    /^1\n00:00:00,000 --> 00:00:0\d,\d{3}\nThe mill stands by the river\.\n\n2\n/,
  );
  expect(String(await transcriptions.create({ model, file, response_format: "vtt" }))).toStartWith(
    "WEBVTT\n\n00:00:00.000",
  );
  const verbose = await transcriptions.create({
    model,
    file,
    response_format: "verbose_json",
    timestamp_granularities: ["word", "segment"],
  });
  expect([verbose.segments?.length, verbose.words?.length]).toEqual([2, 9]);
  expect(verbose.duration).toBeGreaterThan(1);
});

test("a transcription streams in vLLM's form", async () => {
  const input = "It grinds slowly.";
  const speech = await openai.audio.speech.create({ model, voice: "alloy", input });
  const file = await toFile(Buffer.from(await speech.arrayBuffer()), "speech.wav");
  const stream = await openai.audio.transcriptions.create({ model, file, stream: true });
  let text = "";
  for await (const event of stream as AsyncIterable<unknown>) {
    text += (event as { choices: { delta: { content?: string } }[] }).choices[0]?.delta.content ?? "";
  }
  expect(text).toBe(input);
});

test("the client's own errors come of what the simulator refuses", async () => {
  const chat = (body: object, headers: Record<string, string> = {}) =>
    openai.chat.completions.create({ model, messages: [...messages], ...body }, { headers }).then(
      () => null,
      (error: unknown) => error as InstanceType<typeof OpenAI.APIError>,
    );
  expect(await chat({ model: "nobody" })).toBeInstanceOf(OpenAI.NotFoundError);
  expect(await chat({ max_tokens: 10_000_000 })).toBeInstanceOf(OpenAI.BadRequestError);
  expect(await chat({}, { "x-sim-fault": "status=429" })).toBeInstanceOf(OpenAI.RateLimitError);
  expect(await chat({}, { "x-sim-fault": "status=401" })).toBeInstanceOf(OpenAI.AuthenticationError);
  expect(await chat({}, { "x-sim-fault": "reset" })).toBeInstanceOf(OpenAI.APIConnectionError);
  const wrong = [
    openai.embeddings.create({ model, input: [] }),
    openai.embeddings.create({ model, input: "x", dimensions: 100_000 }),
    openai.images.generate({ model, prompt: "x", size: "9000x1" as "auto" }),
    openai.images.generate({ model, prompt: "x", response_format: "url" }),
    openai.audio.speech.create({ model, voice: "alloy", input: "" }),
    openai.audio.speech.create({ model, voice: "alloy", input: "x", response_format: "mp3" }),
    openai.audio.transcriptions.create({ model, file: await toFile(Buffer.alloc(0), "a.wav") }),
  ];
  for (const outcome of await Promise.allSettled(wrong)) {
    expect(outcome.status === "rejected" && outcome.reason).toBeInstanceOf(OpenAI.BadRequestError);
  }
});

test("an error event ends the client's stream as an error", async () => {
  const stream = await openai.chat.completions.create(
    { model, messages: [...messages], stream: true },
    { headers: { "x-sim-fault": "after=2; error; message=The engine broke." } },
  );
  let chunks = 0;
  const read = async (): Promise<void> => {
    for await (const _ of stream) chunks++;
  };
  expect(read()).rejects.toThrow("The engine broke.");
  await read().catch(() => {});
  expect(chunks).toBe(3);
});
