// The routes of language models over a caller that is written by hand: what is checked, what goes on to the caller, and
// what a client is told. Streams are in llm-stream.test.ts, the real thing in tests/openai-sdk.test.ts.
import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import { answerOf, callerOf } from "./llm-caller-fixture.ts";
import { jsonPost, otherKey, startFixture } from "./server-fixture.ts";

const user = { role: "user", content: "hello" };
const chat = { model: "chat", messages: [user] };

const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; param: string | null; message: string; type: string } }).error;

const refused: readonly (readonly [path: string, param: string | null, body: unknown])[] = [
  ["chat/completions", null, [1]],
  ["chat/completions", null, null],
  ["chat/completions", "model", { ...chat, model: 7 }],
  ["chat/completions", "model", { ...chat, model: "" }],
  ["chat/completions", "model", { ...chat, model: "a\r\nx-injected: 1" }],
  ["chat/completions", "model", { ...chat, model: "m".repeat(257) }],
  ["chat/completions", "messages", { model: "chat" }],
  ["chat/completions", "messages", { ...chat, messages: [] }],
  ["chat/completions", "messages", { ...chat, messages: "hello" }],
  ["chat/completions", "messages/0", { ...chat, messages: [null] }],
  ["chat/completions", "messages/1", { ...chat, messages: [user, { content: "x" }] }],
  ["chat/completions", "messages/0/content", { ...chat, messages: [{ role: "user", content: 7 }] }],
  ["chat/completions", "messages/0/content", { ...chat, messages: [{ role: "user", content: [null] }] }],
  ["chat/completions", "stream", { ...chat, stream: "yes" }],
  ["chat/completions", "stream_options", { ...chat, stream_options: { include_usage: true } }],
  ["chat/completions", "stream_options", { ...chat, stream: true, stream_options: true }],
  ["chat/completions", "n", { ...chat, n: 0 }],
  ["chat/completions", "n", { ...chat, n: 129 }],
  ["chat/completions", "n", { ...chat, n: "2" }],
  ["chat/completions", "max_tokens", { ...chat, max_tokens: -1 }],
  ["chat/completions", "tools", { ...chat, tools: {} }],
  ["chat/completions", "user", { ...chat, user: 7 }],
  ["completions", "prompt", { model: "chat" }],
  ["completions", "prompt", { model: "chat", prompt: [] }],
  ["completions", "prompt", { model: "chat", prompt: [1, "a"] }],
  ["completions", "prompt", { model: "chat", prompt: [[1.5]] }],
  ["embeddings", "input", { model: "embed", input: "" }],
  ["embeddings", "input", { model: "embed", input: {} }],
  ["embeddings", "input", { model: "embed", input: Array.from({ length: 2_049 }, () => "a") }],
  ["embeddings", "encoding_format", { model: "embed", input: "a", encoding_format: "hex" }],
  ["embeddings", "dimensions", { model: "embed", input: "a", dimensions: 0 }],
  ["embeddings", "stream", { model: "embed", input: "a", stream: true }],
  ["images/generations", "prompt", { model: "image" }],
  ["images/generations", "n", { model: "image", prompt: "a", n: 11 }],
  ["images/generations", "stream", { model: "image", prompt: "a", stream: 1 }],
  ["images/generations", "partial_images", { model: "image", prompt: "a", stream: true, partial_images: 4 }],
  ["audio/speech", "input", { model: "speech", input: [] }],
  ["audio/speech", "stream_format", { model: "speech", input: "a", stream_format: "mp3" }],
];

test("what is wrong in a body is 400 with its field, and nobody is asked", async () => {
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller });
  for (const [path, param, body] of refused) {
    const response = await server.send(`/v1/${path}`, jsonPost(body));
    const error = await errorOf(response);
    expect([path, param, response.status, error.param, error.code, error.type]).toEqual([
      path,
      param,
      400,
      param,
      "invalid_request",
      "invalid_request_error",
    ]);
    expect(response.headers.get("x-should-retry")).toBe("false");
  }
  expect(requests).toEqual([]);
});

test("what is not known here goes on as it came; token ids, nulls and vLLM's fields too", async () => {
  const { caller, requests } = callerOf(() => answerOf('{"ok":true}'));
  await using server = await startFixture({ llm: caller });
  const bodies = [
    ["chat/completions", { ...chat, n: null, stream: null, top_k: 5, some_new_field: { a: [1] } }],
    ["completions", { model: "org/with:odd_name.v1", prompt: [[1, 2], [3]], echo: true }],
    ["embeddings", { model: "embed", input: [1, 2, 3] }],
    ["completions", { model: null, prompt: "a" }],
    ["embeddings", { model: "embed", messages: [user] }],
    [
      "embeddings",
      { model: "embed", input: Array.from({ length: 1_000 }, () => Array.from({ length: 300 }, () => 7)) },
    ],
  ] as const;
  for (const [path, body] of bodies) {
    const response = await server.send(`/v1/${path}`, jsonPost(body, { "x-request-id": "my-id" }));
    expect([response.status, await response.text()]).toEqual([200, '{"ok":true}']);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(response.headers.get("x-request-id")).toBe("my-id");
    const request = requests.at(-1);
    expect(request?.body).toEqual({ kind: "json", value: body });
    expect(request).toMatchObject({ endpoint: path, model: body.model ?? "", keyId: "alice", requestId: "my-id" });
    expect(request).toMatchObject({ stream: false, streamUsage: false });
  }
  expect(server.http.heldCount()).toBe(0);
});

test("errors have OpenAI's form; what was tried everywhere is not repeated, what has no room may be", async () => {
  let error = new AppError("unknown_model", "x");
  const { caller } = callerOf(() => Promise.reject(error));
  await using server = await startFixture({ llm: caller });
  const rows = [
    ["unknown_model", 404, "model_not_found", "invalid_request_error", "false"],
    ["model_overloaded", 429, "model_overloaded", "rate_limit_error", null],
    ["insufficient_quota", 429, "insufficient_quota", "insufficient_quota", "false"],
    ["upstream_failed", 502, "upstream_failed", "server_error", "false"],
    ["model_unavailable", 503, "model_unavailable", "server_error", "false"],
    ["upstream_timeout", 504, "upstream_timeout", "server_error", "false"],
  ] as const;
  for (const [code, status, shown, type, shouldRetry] of rows) {
    error = new AppError(code, `words of ${code}`, { retryAfterS: 1.5 });
    const response = await server.send("/v1/chat/completions", jsonPost({ ...chat, stream: true }));
    expect([code, response.status, response.headers.get("x-should-retry")]).toEqual([code, status, shouldRetry]);
    expect(await errorOf(response)).toEqual({ code: shown, type, param: null, message: `words of ${code}` });
    const waits = status === 429 || status === 503 ? ["2", "1500"] : [null, null];
    expect([response.headers.get("retry-after"), response.headers.get("retry-after-ms")]).toEqual(waits);
  }
  const unkeyed = await fetch(`${server.url}/v1/chat/completions`, jsonPost(chat));
  expect([unkeyed.status, (await errorOf(unkeyed)).code]).toEqual([401, "invalid_api_key"]);
});

test("a server's refusal keeps its words and its field, and tells nothing of the server", async () => {
  let body = "";
  let status = 400;
  const { caller } = callerOf(() => answerOf(body, { status }));
  await using server = await startFixture({ llm: caller });
  const send = () => server.send("/v1/chat/completions", jsonPost(chat));
  const said = "This model's maximum context length is 8192 tokens. See http://10.0.0.7:8001/v1?key=s3cret for more.";
  body = JSON.stringify({ error: { message: said, type: "BadRequestError", param: "messages", code: 400 } });
  const response = await send();
  expect([response.status, response.headers.get("x-should-retry")]).toEqual([400, "false"]);
  expect(await errorOf(response)).toEqual({
    message: "This model's maximum context length is 8192 tokens. See (address) for more.",
    type: "invalid_request_error",
    param: "messages",
    code: "context_length_exceeded",
  });
  status = 422;
  body = '{"object":"error","message":"top_p must be in (0, 1]","code":"bad top p\\r\\n"}';
  expect(await errorOf(await send())).toMatchObject({ message: "top_p must be in (0, 1]", code: "invalid_request" });
  body = JSON.stringify({ error: { message: `${".".repeat(1_990)} 10.0.0.7:8001 is away` } });
  expect((await errorOf(await send())).message).not.toContain("10.0.0.7");
  for (body of ["<html>nginx at 10.0.0.7</html>", "null", "[]", '{"error":7}', ""]) {
    const odd = await send();
    expect([odd.status, (await errorOf(odd)).message]).toEqual([422, "The model server refused the request."]);
  }
});

test("a gateway that stops lets a call finish, and tells whom it cuts off to come again", async () => {
  const begun = Promise.withResolvers<void>();
  const { caller } = callerOf(({ signal }) => {
    begun.resolve();
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  const server = await startFixture({ llm: caller });
  const waiting = server.send("/v1/chat/completions", jsonPost(chat));
  await begun.promise;
  await Promise.all([server.http.stop(600), waiting]);
  const response = await waiting;
  expect([response.status, (await errorOf(response)).code]).toEqual([503, "not_ready"]);
  expect(response.headers.get("x-should-retry")).toBeNull();
});

test("embeddings that came as numbers are sent in base64 where that was asked", async () => {
  const numbers = { object: "list", data: [0.5, -2].map((v, index) => ({ index, embedding: [v, 1e-3] })), model: "e" };
  let json = JSON.stringify(numbers);
  const { caller } = callerOf(() => answerOf(json));
  await using server = await startFixture({ llm: caller });
  const send = async (encoding_format?: string): Promise<string> => {
    const sent = jsonPost({ model: "embed", input: ["a", "b"], encoding_format });
    return (await server.send("/v1/embeddings", sent)).text();
  };
  expect(await send()).toBe(json);
  expect(await send("float")).toBe(json);
  const encoded = JSON.parse(await send("base64")) as { data: { embedding: string }[] };
  expect(encoded).toMatchObject({ object: "list", model: "e", data: [{ index: 0 }, { index: 1 }] });
  const floats = encoded.data.map(({ embedding }) => {
    const bytes = Buffer.from(embedding, "base64");
    return [bytes.readFloatLE(0), bytes.readFloatLE(4)];
  });
  expect(floats).toEqual([
    [0.5, Math.fround(1e-3)],
    [-2, Math.fround(1e-3)],
  ]);
  json = '{ "data": [ { "embedding": "AAAA" } ] }';
  expect(await send("base64")).toBe(json); // as it came: it is not read in vain
});

test("events of speech are asked for by stream_format, or by stream", async () => {
  const { caller, requests } = callerOf(() => answerOf("RIFF", { contentType: "audio/wav" }));
  await using server = await startFixture({ llm: caller });
  const rows = [
    [{}, false],
    [{ stream_format: "audio", stream: true }, false],
    [{ stream_format: "sse" }, true],
    [{ stream: true }, true],
  ] as const;
  for (const [asked, stream] of rows) {
    const response = await server.send("/v1/audio/speech", jsonPost({ model: "speech", input: "a", ...asked }));
    const type = stream ? "text/event-stream" : "audio/wav";
    expect([asked, requests.at(-1)?.stream, response.headers.get("content-type")]).toEqual([asked, stream, type]);
  }
});

test("sound goes out with its type, and never as a page", async () => {
  let contentType = "audio/wav";
  const { caller } = callerOf(() => answerOf("RIFF\u0000", { contentType }));
  await using server = await startFixture({ llm: caller });
  const send = () => server.send("/v1/audio/speech", jsonPost({ model: "speech", input: "hello" }));
  const sound = await send();
  expect([sound.headers.get("content-type"), await sound.text()]).toEqual(["audio/wav", "RIFF\u0000"]);
  contentType = "text/html\r\nx-injected: 1";
  expect((await send()).headers.get("content-type")).toBe("application/octet-stream");
});

test("a conversation and a long prefix keep their affinity; another, another key's and model's have their own", async () => {
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller });
  const send = async (body: object, headers: Record<string, string> = {}, path = "chat/completions") => {
    await server.send(`/v1/${path}`, jsonPost({ ...chat, ...body }, headers));
    return requests.at(-1);
  };
  const affinity = async (...sent: Parameters<typeof send>) => (await send(...sent))?.affinity;
  const first = await affinity({});
  const grown = [user, { role: "assistant", content: "hi" }, { role: "user", content: "and now?" }];
  expect(await affinity({ messages: grown })).toBe(first);
  const others = [
    await affinity({ messages: [{ role: "user", content: "good bye" }] }),
    await affinity({ model: "other" }),
    await affinity({}, { "x-api-key": otherKey }),
    await affinity({}, { "x-session-id": "s1" }),
    await affinity({ prompt_cache_key: "s2" }),
  ];
  expect(new Set([first, ...others]).size).toBe(6);
  expect(await affinity({ messages: grown.slice(1) }, { "x-session-id": "s1" })).toBe(others[3]);
  const system = { role: "system", content: "The rules of the mill. ".repeat(500) };
  const behind = (content: string) => affinity({ messages: [system, { role: "user", content }] });
  expect(await behind("Who turns it?")).toBe(await behind("Since when?"));
  const prompt = (end: string) =>
    affinity({ prompt: `${system.content}${end}`, messages: undefined }, {}, "completions");
  expect(await prompt("a")).toBe(await prompt("b"));
  const [named, anonymous] = [await send({ user: "u1" }), await send({})];
  expect([named?.stickyKey, anonymous?.stickyKey]).toEqual(["alice u1", "alice"]);
});
