import { expect, test } from "bun:test";
import { asAppError } from "../errors.ts";
import type { LlmEndpoint, ProviderKind, Target } from "../models/llm-models.ts";
import { encodeFor, saltOf } from "./encode.ts";
import type { LlmBody, LlmRequest } from "./llm.ts";

type Fields = Record<string, unknown>;

const targetOf = (kind: ProviderKind): Target => ({
  model: "chat",
  variant: "main",
  provider: "p",
  kind,
  upstreamModel: "org/chat-7b",
  perGpu: false,
});

const requestOf = (body: LlmBody, endpoint: LlmEndpoint = "chat/completions", stream = false): LlmRequest => ({
  endpoint,
  model: "chat",
  body,
  stream,
  streamUsage: false,
  requestId: "r1",
  keyId: "alice",
  stickyKey: "alice",
  affinity: "",
  signal: new AbortController().signal,
});

async function encoded(kind: ProviderKind, value: Fields, endpoint?: LlmEndpoint, stream?: boolean): Promise<Fields> {
  const body = await encodeFor(targetOf(kind), requestOf({ kind: "json", value }, endpoint, stream));
  expect(body.contentType).toBe("application/json");
  return JSON.parse(new TextDecoder().decode(body.bytes)) as Fields;
}

/** The field that the encoding is refused for; null where it is not. */
const refusedFor = async (kind: ProviderKind, value: Fields, endpoint?: LlmEndpoint): Promise<string | null> =>
  encoded(kind, value, endpoint).then(
    () => null,
    (error) => {
      const known = asAppError(error);
      expect(known?.code).toBe("invalid_request");
      return known?.fields[0]?.path ?? "";
    },
  );

const messages = [{ role: "user", content: "hi" }];
const schema = { type: "object", properties: { a: { type: "integer" } } };
const own = { model: "org/chat-7b", cache_salt: saltOf("alice", "") };

test("the server's name for the model, a salt of the key, no id of the client's; the rest as it came", async () => {
  const value = { model: "chat", messages, top_k: 5, some_new_field: [1], request_id: "mine", priority: 0 };
  expect(await encoded("vllm", value)).toEqual({ messages, top_k: 5, some_new_field: [1], ...own });
  expect(await encoded("openai", { model: "chat", messages, top_k: null, request_id: "x", temperature: 0 })).toEqual({
    model: "org/chat-7b",
    messages,
    temperature: 0,
  });
  const input = { model: "embed", input: "a", encoding_format: "base64" };
  expect(await encoded("vllm", input, "embeddings")).toEqual({ ...input, model: "org/chat-7b" });
});

test("a stream's usage is always asked for, beside what the client asked", async () => {
  const stream = async (given: unknown) =>
    (await encoded("openai", { messages, stream: true, stream_options: given }, "chat/completions", true))
      .stream_options;
  expect(await stream(undefined)).toEqual({ include_usage: true });
  expect(await stream(null)).toEqual({ include_usage: true });
  expect(await stream({ include_usage: false, continuous_usage_stats: true })).toEqual({
    include_usage: true,
    continuous_usage_stats: true,
  });
});

test("salts part keys, and a client's own salt joins none", () => {
  const salts = [saltOf("alice", ""), saltOf("bob", ""), saltOf("alice", "s"), saltOf("bob", "s")];
  salts.push(saltOf("alice", saltOf("bob", "")), saltOf('a","b', ""), saltOf("a", 'b",""'));
  expect(new Set(salts).size).toBe(salts.length);
  expect(saltOf("alice", null)).toBe(saltOf("alice", ""));
  for (const salt of salts) expect(salt).toMatch(/^[A-Za-z0-9_-]{43}$/);
});

test("guided_* becomes structured_outputs for vLLM", async () => {
  const rows = [
    [{ guided_json: schema }, { json: schema }],
    [{ guided_regex: "a+" }, { regex: "a+" }],
    [{ guided_choice: ["a", "b"], guided_json: null }, { choice: ["a", "b"] }],
    [
      { guided_grammar: "root ::= a", guided_whitespace_pattern: " ?" },
      { grammar: "root ::= a", whitespace_pattern: " ?" },
    ],
    [{ structured_outputs: { regex: "a+" } }, { regex: "a+" }],
    [{ guided_json: schema, response_format: { type: "text" } }, { json: schema }],
  ] as const;
  for (const [given, outputs] of rows) {
    const value = await encoded("vllm", { messages, ...given });
    expect(value.structured_outputs).toEqual(outputs as never);
    expect(Object.keys(value).some((name) => name.startsWith("guided_"))).toBe(false);
  }
  expect(await encoded("vllm", { messages, guided_json: null, structured_outputs: null })).toEqual({
    messages,
    ...own,
  });
});

test("another server gets response_format where that says the same", async () => {
  const format = async (given: Fields) => (await encoded("openai", { messages, ...given })).response_format;
  const strict = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
  expect(await format({ guided_json: schema })).toEqual(strict);
  expect(await format({ guided_json: JSON.stringify(schema) })).toEqual(strict);
  expect(await format({ structured_outputs: { json: schema } })).toEqual(strict);
  expect(await format({ structured_outputs: { json_object: true } })).toEqual({ type: "json_object" });
  expect(await format({ response_format: { type: "json_object" } })).toEqual({ type: "json_object" });
});

test("what a server would ignore without a word is refused, with its field", async () => {
  const both: readonly (readonly [Fields, string])[] = [
    [{ guided_decoding_backend: "outlines" }, "/guided_decoding_backend"],
    [{ guided_regex: "a", guided_choice: ["a"] }, "/structured_outputs"],
    [{ guided_regex: "a", structured_outputs: { regex: "a" } }, "/guided_regex"],
    [{ guided_whitespace_pattern: " " }, "/structured_outputs"],
    [{ structured_outputs: { choices: ["a"] } }, "/structured_outputs"],
    [{ structured_outputs: {}, guided_json: schema }, "/guided_json"],
    [{ structured_outputs: "json" }, "/structured_outputs"],
    [{ structured_outputs: [] }, "/structured_outputs"],
    [{ guided_json: schema, response_format: { type: "json_object" } }, "/response_format"],
    [{ priority: -1 }, "/priority"],
    [{ kv_transfer_params: { remote_host: "10.0.0.7" } }, "/kv_transfer_params"],
    [{ prompt_embeds: "AAAA" }, "/prompt_embeds"],
  ];
  for (const [given, path] of both) {
    for (const kind of ["vllm", "openai"] as const) {
      expect([given, kind, await refusedFor(kind, { messages, ...given })]).toEqual([given, kind, path]);
    }
  }
  expect(await refusedFor("vllm", { messages, cache_salt: 7 })).toBe("/cache_salt");
  const openaiAlone: readonly (readonly [Fields, string])[] = [
    [{ top_k: 5 }, "/top_k"],
    [{ chat_template_kwargs: {} }, "/chat_template_kwargs"],
    [{ echo: true }, "/echo"],
    [{ guided_regex: "a" }, "/structured_outputs"],
    [{ structured_outputs: { json: "{" } }, "/structured_outputs"],
  ];
  for (const [given, path] of openaiAlone) {
    expect([given, await refusedFor("openai", { messages, ...given })]).toEqual([given, path]);
  }
  expect(await refusedFor("openai", { prompt: "a", echo: true }, "completions")).toBeNull();
});

test("a form keeps its fields and their order; the model is the server's", async () => {
  const bytes = new Uint8Array([1, 0, 255]);
  const fields = [
    ["timestamp_granularities[]", "word"],
    ["model", "chat"],
    ["timestamp_granularities[]", "segment"],
  ] as const;
  const file = { name: "a.flac", contentType: "audio/flac", bytes };
  const body = await encodeFor(targetOf("vllm"), requestOf({ kind: "form", fields, file }, "audio/transcriptions"));
  const read = new Response(body.bytes as Uint8Array<ArrayBuffer>, { headers: { "content-type": body.contentType } });
  const form = await read.formData();
  expect(form.getAll("timestamp_granularities[]")).toEqual(["word", "segment"]);
  expect(form.getAll("model")).toEqual(["org/chat-7b"]);
  const sent = form.get("file") as File;
  expect([sent.name, await sent.bytes()]).toEqual(["a.flac", bytes]);
  expect(Buffer.from(body.bytes).toString("latin1")).toContain("Content-Type: audio/flac\r\n");
});

test("speech is asked for in OpenAI's words: stream_format alone", async () => {
  const value = { model: "speech", input: "a" };
  const plain = { model: "org/chat-7b", input: "a" };
  const ask = (asked: Fields, stream: boolean) => encoded("vllm", { ...value, ...asked }, "audio/speech", stream);
  expect(await ask({ stream: true }, true)).toEqual({ ...plain, stream_format: "sse" });
  expect(await ask({ stream: true, stream_format: "audio" }, false)).toEqual({ ...plain, stream_format: "audio" });
  expect(await ask({ stream: false }, false)).toEqual(plain);
});
