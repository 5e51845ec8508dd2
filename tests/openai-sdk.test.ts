// The official OpenAI SDK, unchanged, against the whole service with the simulator behind it: every route, streaming
// helpers, tools, structured outputs, aborts, errors and their retries.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import OpenAI, {
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
  toFile,
} from "openai";
import { type LlmStack, model, startLlmStack } from "./llm-stack.ts";

const picture = await Bun.file(join(import.meta.dir, "../examples/cat.jpg")).bytes();
const pictures = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(picture) });

let all: LlmStack;
let client: OpenAI;

beforeAll(async () => {
  all = await startLlmStack({ FETCH_ALLOW_HOSTS: `127.0.0.1:${pictures.port}` });
  client = all.client;
});
afterAll(async () => {
  await all.stop();
  await pictures.stop(true);
});

const messages = [
  { role: "system" as const, content: "The mill stands at the river. The wheel is turned by water." },
  { role: "user" as const, content: "What turns the wheel?" },
];

const weather = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "The weather of a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, unit: { type: "string", enum: ["c", "f"] } },
      required: ["city", "unit"],
      additionalProperties: false,
    },
  },
};
const isWeather = new Ajv2020().compile(weather.function.parameters);

test("chat: an answer with its usage and the id of its request", async () => {
  const { data, response, request_id } = await client.chat.completions.create({ model, messages }).withResponse();
  expect(data).toMatchObject({ object: "chat.completion", model, choices: [{ index: 0, finish_reason: "stop" }] });
  expect(data.choices[0]?.message.content?.length).toBeGreaterThan(0);
  const { prompt_tokens = 0, completion_tokens = 0, total_tokens } = data.usage ?? {};
  expect(prompt_tokens).toBeGreaterThan(10);
  expect(total_tokens).toBe(prompt_tokens + completion_tokens);
  expect(request_id).toBe(response.headers.get("x-request-id"));
  expect(response.headers.get("content-type")).toBe("application/json");
});

test("who names no model gets the default one", async () => {
  const answer = await all.stack.call("POST", "/v1/chat/completions", { messages });
  expect([answer.status, await answer.json()]).toMatchObject([200, { model }]);
});

test("chat: a stream says the same as the whole answer; usage comes where it was asked for", async () => {
  const whole = await client.chat.completions.create({ model, messages, seed: 7 });
  for (const include_usage of [false, true]) {
    const stream_options = include_usage ? { stream_options: { include_usage } } : {};
    const stream = await client.chat.completions.create({ model, messages, seed: 7, stream: true, ...stream_options });
    const chunks = await Array.fromAsync(stream);
    const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    expect(text).toBe(whole.choices[0]?.message.content ?? "");
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
    const finished = chunks.flatMap(({ choices }) => choices[0]?.finish_reason ?? []);
    expect(finished).toEqual(["stop"]);
    const usages = chunks.flatMap(({ usage }) => usage ?? []);
    expect(usages.map(({ total_tokens }) => total_tokens)).toEqual(
      include_usage ? [whole.usage?.total_tokens ?? 0] : [],
    );
    expect(chunks.filter(({ choices }) => choices.length === 0)).toHaveLength(include_usage ? 1 : 0);
  }
});

test("usage on every chunk, as vLLM has it, is passed on and grows to that of the whole", async () => {
  const stream_options = { include_usage: true, continuous_usage_stats: true };
  const stream = await client.chat.completions.create({ model, messages, seed: 7, stream: true, stream_options });
  const chunks = await Array.fromAsync(stream);
  const counts = chunks.flatMap(({ usage }) => usage?.completion_tokens ?? []);
  expect(counts).toHaveLength(chunks.length);
  expect(counts).toEqual([...counts].sort((a, b) => a - b));
  const whole = await client.chat.completions.create({ model, messages, seed: 7 });
  expect(counts.at(-1)).toBe(whole.usage?.completion_tokens ?? 0);
});

test("chat: several choices, whole and as a stream; logprobs", async () => {
  const whole = await client.chat.completions.create({ model, messages, n: 3, logprobs: true, top_logprobs: 2 });
  expect(whole.choices.map(({ index }) => index).sort()).toEqual([0, 1, 2]);
  for (const { logprobs } of whole.choices) expect(logprobs?.content?.[0]?.top_logprobs).toHaveLength(2);
  const helper = client.chat.completions.stream({ model, messages, n: 3 });
  const { choices } = await helper.finalChatCompletion();
  expect(choices.map(({ finish_reason }) => finish_reason)).toEqual(["stop", "stop", "stop"]);
});

test("the streaming helper's events and its final answer", async () => {
  const events: string[] = [];
  const helper = client.chat.completions
    .stream({ model, messages, stream_options: { include_usage: true } })
    .on("connect", () => events.push("connect"))
    .on("content", () => events.push("content"))
    .on("end", () => events.push("end"));
  const content = await helper.finalContent();
  expect(content?.length).toBeGreaterThan(0);
  expect((await helper.totalUsage()).completion_tokens).toBeGreaterThan(0);
  expect([events[0], events.includes("content"), events.at(-1)]).toEqual(["connect", true, "end"]);
});

test("tools: whole and as deltas, with arguments that obey their schema", async () => {
  const request = { model, messages, tools: [weather], tool_choice: "required" as const, seed: 3 };
  const whole = await client.chat.completions.create(request);
  expect(whole.choices[0]?.finish_reason).toBe("tool_calls");
  const helper = client.chat.completions.stream(request);
  const { choices } = await helper.finalChatCompletion();
  expect(choices[0]?.finish_reason).toBe("tool_calls");
  for (const call of [whole.choices[0]?.message.tool_calls?.[0], choices[0]?.message.tool_calls?.[0]]) {
    if (call?.type !== "function") throw new Error("no call of a function");
    expect(call.function.name).toBe("get_weather");
    expect(isWeather(JSON.parse(call.function.arguments))).toBe(true);
  }
});

test("runTools: the function is called, its result goes back, an answer in words ends it", async () => {
  const asked: unknown[] = [];
  const tool = {
    ...weather,
    function: {
      ...weather.function,
      parse: JSON.parse,
      function: (given: unknown) => {
        asked.push(given);
        return '{"sky":"clear"}';
      },
    },
  };
  for (const stream of [false, true] as const) {
    const messages = [{ role: "user" as const, content: "What is the weather in Bergen?" }];
    const request = { model, messages, tools: [tool], max_tokens: 400 };
    const runner = stream
      ? client.chat.completions.runTools({ ...request, stream })
      : client.chat.completions.runTools({ ...request, stream });
    expect((await runner.finalContent())?.length).toBeGreaterThan(0);
  }
  expect(asked).toHaveLength(2);
  expect(asked.every((given) => isWeather(given))).toBe(true);
});

test("structured outputs: a schema by response_format, a choice by vLLM's fields, old and new", async () => {
  const schema = { ...weather.function.parameters };
  const response_format = { type: "json_schema" as const, json_schema: { name: "weather", strict: true, schema } };
  const parsed = await client.chat.completions.parse({ model, messages, response_format });
  expect(isWeather(parsed.choices[0]?.message.parsed)).toBe(true);
  const choice = ["water", "wind"];
  for (const constraint of [{ guided_choice: choice }, { structured_outputs: { choice } }]) {
    const request = { model, messages, ...constraint };
    const answer = await client.chat.completions.create(request);
    expect(choice).toContain(answer.choices[0]?.message.content ?? "");
  }
  const wrong = { model, messages, guided_choice: choice, guided_regex: "a" };
  expect((await caught(client.chat.completions.create(wrong))).error).toBeInstanceOf(BadRequestError);
});

test("what a model thinks stands apart from what it says, whole and in deltas, and counts as its tokens", async () => {
  const request = { model, messages, reasoning_effort: "high" as const, seed: 5 };
  const whole = await client.chat.completions.create(request);
  const { content = "", reasoning = "" } = (whole.choices[0]?.message ?? {}) as Spoken;
  expect([Boolean(content), Boolean(reasoning)]).toEqual([true, true]);
  const seen = { content: "", reasoning: "" };
  const kinds: string[] = [];
  const chunks = await client.chat.completions.create({
    ...request,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const { choices, usage } of chunks) {
    const delta = choices[0]?.delta as Spoken | undefined;
    for (const kind of ["reasoning", "content"] as const) {
      if (delta?.[kind]) kinds.push(kind);
      seen[kind] += delta?.[kind] ?? "";
    }
    if (usage) expect(usage.completion_tokens).toBe(whole.usage?.completion_tokens ?? 0);
  }
  expect(seen).toEqual({ content, reasoning });
  expect(kinds.slice(kinds.indexOf("content"))).not.toContain("reasoning");
});

/** vLLM's field, which the SDK passes on. */
interface Spoken {
  readonly content?: string;
  readonly reasoning?: string;
}

test("pictures: by URL and as data, the same to the model", async () => {
  const data = `data:image/jpeg;base64,${Buffer.from(picture).toString("base64")}`;
  const texts: (string | null | undefined)[] = [];
  for (const url of [`http://127.0.0.1:${pictures.port}/cat.jpg`, data]) {
    const content = [
      { type: "text" as const, text: "What is in the picture?" },
      { type: "image_url" as const, image_url: { url } },
    ];
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }], seed: 1 });
    texts.push(answer.choices[0]?.message.content);
  }
  expect(texts[0]?.length).toBeGreaterThan(0);
  expect(texts[0]).toBe(texts[1] ?? "");
});

test("completions: a text, a list, token ids; a stream", async () => {
  for (const prompt of ["The mill", [1, 2, 3]]) {
    const whole = await client.completions.create({ model, prompt, max_tokens: 8, seed: 1 });
    expect(whole).toMatchObject({ object: "text_completion", usage: { completion_tokens: 8 } });
    const stream = await client.completions.create({ model, prompt, max_tokens: 8, seed: 1, stream: true });
    const text = (await Array.fromAsync(stream)).map(({ choices }) => choices[0]?.text ?? "").join("");
    expect(text).toBe(whole.choices[0]?.text ?? "");
  }
  const two = await client.completions.create({ model, prompt: ["The mill", "The race"], max_tokens: 2 });
  expect(two.choices.map(({ index }) => index)).toEqual([0, 1]);
});

test("embeddings: numbers by default and where they are asked for, in the order of the inputs", async () => {
  const input = ["the mill stands at the river", "a mill at a river", "quarterly tax report"];
  const unasked = await client.embeddings.create({ model, input });
  const floats = await client.embeddings.create({ model, input, encoding_format: "float" });
  expect(unasked.data.map(({ index }) => index)).toEqual([0, 1, 2]);
  const [first = [], second = [], third = []] = floats.data.map(({ embedding }) => embedding);
  expect(first.length).toBeGreaterThan(100);
  unasked.data.forEach(({ embedding }, at) => {
    expect(embedding).toHaveLength(first.length);
    embedding.forEach((value, i) => {
      expect(Math.abs(value - (floats.data[at]?.embedding[i] ?? Number.NaN))).toBeLessThan(1e-6);
    });
  });
  const near = (a: readonly number[], b: readonly number[]): number =>
    a.reduce((sum, x, i) => sum + x * (b[i] ?? 0), 0);
  expect(near(first, second)).toBeGreaterThan(near(first, third));
  const [one] = (await client.embeddings.create({ model, input: input[1] ?? "" })).data;
  expect(near(one?.embedding ?? [], second)).toBeGreaterThan(0.999);
});

test("pictures are made", async () => {
  const { data = [] } = await client.images.generate({ model, prompt: "a mill", n: 2, size: "256x256" });
  expect(data).toHaveLength(2);
  for (const { b64_json = "" } of data) expect(Buffer.from(b64_json, "base64").toString("latin1", 1, 4)).toBe("PNG");
});

test("a text is spoken, and what was spoken is written down", async () => {
  const speech = await client.audio.speech.create({ model, voice: "alloy", input: "hello", response_format: "wav" });
  expect(speech.headers.get("content-type")).toStartWith("audio/");
  const wave = Buffer.from(await speech.arrayBuffer());
  expect(wave.toString("latin1", 0, 4)).toBe("RIFF");
  const file = await toFile(wave, "hello.wav", { type: "audio/wav" });
  const { text } = await client.audio.transcriptions.create({ model, file });
  expect(text.length).toBeGreaterThan(0);
  const plain = await client.audio.transcriptions.create({ model, file, response_format: "text" });
  expect(String(plain).trim()).toBe(text.trim());
});

/** A request for which the simulator does not do what it should. Each test has a model, and so a breaker, of its own. */
const faulty = (model: string, fault: string) => ({ model, messages, vllm_xargs: { sim_fault: fault } });

/** How a call failed, and how many requests the SDK sent for it. Its promises are no plain ones: they start when read. */
async function caught(work: PromiseLike<unknown>): Promise<{ error: unknown; sent: number }> {
  const before = all.sent();
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  return { error, sent: all.sent() - before };
}

test("errors have their classes and their fields, and are not repeated in vain", async () => {
  const bad = await caught(client.chat.completions.create({ model, messages, n: 1_000 }));
  expect(bad.error).toBeInstanceOf(BadRequestError);
  expect(bad).toMatchObject({ error: { status: 400, param: "n", code: "invalid_request" }, sent: 1 });
  expect((bad.error as APIError).requestID).toMatch(/^[\w-]+$/);
  const unknown = await caught(client.chat.completions.create({ model: "no/such", messages }));
  expect(unknown.error).toBeInstanceOf(NotFoundError);
  expect(unknown).toMatchObject({ error: { code: "model_not_found" }, sent: 1 });
  // What the model server itself refuses.
  const refused = await caught(client.chat.completions.create({ model, messages, max_tokens: 10_000_000 }));
  expect(refused.error).toBeInstanceOf(BadRequestError);
  expect(refused).toMatchObject({ error: { code: "context_length_exceeded", type: "invalid_request_error" }, sent: 1 });
  // What our own tries have not mended, and what a wait may.
  const broken = await caught(client.chat.completions.create(faulty("other/a", "reset")));
  expect(broken).toMatchObject({ error: { status: 502, code: "upstream_failed" }, sent: 1 });
  expect(broken.error).toBeInstanceOf(InternalServerError);
  const full = await caught(client.chat.completions.create(faulty("other/a", "status=429"), { maxRetries: 1 }));
  expect(full).toMatchObject({ error: { status: 429, code: "model_overloaded" }, sent: 2 });
  expect(full.error).toBeInstanceOf(RateLimitError);
  const stranger = new OpenAI({ baseURL: `${all.stack.url}/v1`, apiKey: "nobody" });
  const unkeyed = await caught(stranger.chat.completions.create({ model, messages }));
  expect(unkeyed.error).toBeInstanceOf(AuthenticationError);
  expect(unkeyed).toMatchObject({ error: { code: "invalid_api_key" } });
});

test("an answer that is cut off is an error, whole or as a stream, and never the end of a text", async () => {
  const stream = await client.chat.completions.create({ ...faulty("other/b", "after=3; cut"), stream: true });
  let text = "";
  const reading = async (): Promise<void> => {
    for await (const { choices } of stream) text += choices[0]?.delta.content ?? "";
  };
  const cut = await caught(reading());
  expect(cut.error).toBeInstanceOf(APIError);
  expect(cut).toMatchObject({ error: { code: "upstream_failed" }, sent: 0 });
  expect(text.length).toBeGreaterThan(0);
  const helper = client.chat.completions.stream(faulty("other/b", "after=3; end"));
  expect((await caught(helper.finalContent())).error).toBeInstanceOf(APIError);
});

test("an abort between tokens and one before an answer reach the model server", async () => {
  const request = faulty("other/c", "after=3; hang");
  const reached = (series: string, count: number) =>
    all.stack.until(series, 5_000, async () => ((await all.counted(series)) === count ? true : null));
  const left = "vllm:http_requests_client_disconnected_total";
  const before = await all.counted(left);
  const stream = await client.chat.completions.create({ ...request, stream: true });
  for await (const _ of stream) break; // the SDK then closes its connection
  await reached(left, before + 1);
  const abort = new AbortController();
  const waiting = caught(client.chat.completions.create(request, { signal: abort.signal }));
  await reached('sim_faults_injected_total{fault="hang"}', 2);
  abort.abort();
  expect((await waiting).error).toBeInstanceOf(APIUserAbortError);
  await reached(left, before + 2);
});
