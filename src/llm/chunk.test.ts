import { describe, expect, test } from "bun:test";
import { ChunkReader } from "./chunk.ts";

const bytes = (value: unknown): Uint8Array => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const chunk = (delta: object, finish_reason: string | null = null, index = 0) => ({
  choices: [{ index, delta, finish_reason }],
});
const read = (value: unknown) => new ChunkReader().read(bytes(value));

describe("content", () => {
  test.each([
    ["a role alone", chunk({ role: "assistant" }), false],
    ["a role with nothing", chunk({ role: "assistant", content: "", reasoning: null, tool_calls: [] }), false],
    ["text", chunk({ content: "ü" }), true],
    ["reasoning", chunk({ reasoning: "so" }), true],
    ["a tool call", chunk({ tool_calls: [{ index: 0, function: { arguments: "" } }] }), true],
    ["an end", chunk({}, "stop"), true],
    ["no choices", { choices: [] }, false],
  ])("%s", (_, value, content) => {
    expect(read(value)).toMatchObject({ kind: "chunk", content });
  });
});

test("tokens are counted by choice, and by ids where they are told", () => {
  expect(
    read({ choices: [chunk({ content: "a" }).choices[0], chunk({ content: "b" }, null, 1).choices[0]] }).tokens,
  ).toBe(2);
  expect(read({ choices: [{ index: 0, delta: { content: "abc" }, token_ids: [1, 2, 3] }] }).tokens).toBe(3);
  expect(new ChunkReader().read(bytes({ choices: [{ index: 0, text: "a" }] })).tokens).toBe(1);
});

test("a stream is complete when each choice that began has ended", () => {
  const reader = new ChunkReader();
  const steps = [chunk({ content: "a" }), chunk({ content: "b" }, null, 1), chunk({}, "stop"), chunk({}, "length", 1)];
  const seen = steps.map((step) => {
    reader.read(bytes(step));
    return reader.complete;
  });
  expect(seen).toEqual([false, false, false, true]);
  reader.read(bytes({ choices: [], usage: { prompt_tokens: 1 } }));
  expect(reader.complete).toBeTrue();
});

test("an answer that the server gave up has failed, whatever it says with it", () => {
  for (const given of [chunk({}, "abort"), { choices: [{ index: 0, text: "a", finish_reason: "abort" }] }]) {
    expect(read(given)).toMatchObject({ kind: "error", errorStatus: 0 });
  }
});

test("an end that is said without a choice's end is none", () => {
  const reader = new ChunkReader();
  expect(reader.read(bytes("[DONE]")).kind).toBe("done");
  expect(reader.complete).toBeFalse();
});

test.each([
  [{ error: { message: "m", code: 429 } }, 429],
  [{ error: { message: "m", type: "overloaded_error" } }, 429],
  [{ error: "boom" }, 0],
  [{ error: { code: "context_length_exceeded" } }, 0],
])("an error event: %j", (value, errorStatus) => {
  expect(read(value)).toMatchObject({ kind: "error", errorStatus });
});

test.each(["{", "7", "null", '"text"', JSON.stringify(chunk({}, null, -1)), JSON.stringify(chunk({}, null, 128))])(
  "malformed: %s",
  (text) => {
    expect(read(text).kind).toBe("malformed");
  },
);

test("usage alone is told apart from usage beside content", () => {
  const usage = { prompt_tokens: 5, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 4 } };
  expect(read({ choices: [], usage })).toMatchObject({
    usageOnly: true,
    usage: { promptTokens: 5, completionTokens: 2, cachedTokens: 4 },
  });
  expect(read({ ...chunk({ content: "a" }), usage }).usageOnly).toBeFalse();
  expect(read({ choices: [], usage: { prompt_tokens: -1 } }).usage).toBeNull();
});
