import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { testRunner } from "millrace/testing";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import chat from "./chat.ts";
import completion from "./completion.ts";
import type { ChatDelta } from "./llm/message.ts";

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator();
});
afterAll(() => simulator.stop());

interface Answer {
  readonly message: { readonly content: string | null; readonly tool_calls?: readonly { readonly function: object }[] };
  readonly text: string;
  readonly finish_reason: string;
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number; readonly total_tokens: number };
  readonly model: string;
}

const run = async (input: object, earlierDeltas: readonly unknown[] = [], runner = chat) => {
  const llm = { baseUrl: simulator.url };
  const { output, deltas, reset } = await testRunner(runner, { input, earlierDeltas, llm });
  return { answer: output as Answer, deltas: deltas as ChatDelta[], reset };
};

const messages = [{ role: "user", content: `Repeat: ${"a mill turns where the water runs, ".repeat(8)}` }];
const textOf = (deltas: readonly ChatDelta[]): string => deltas.map(({ content }) => content ?? "").join("");
const tokensOf = (deltas: readonly ChatDelta[]): number => deltas.reduce((sum, { tokens }) => sum + (tokens ?? 0), 0);

describe("a chat", () => {
  test("its deltas are its message", async () => {
    const { answer, deltas, reset } = await run({ messages });
    expect(textOf(deltas)).toBe(answer.message.content ?? "");
    expect(answer).toMatchObject({ finish_reason: "stop", model: "millrace-sim" });
    expect(deltas.at(-1)).toEqual({ finish_reason: "stop", usage: answer.usage, model: "millrace-sim" });
    // The end of the sequence is a token without text.
    expect(tokensOf(deltas)).toBe(answer.usage.completion_tokens - 1);
    expect(reset).toBe(false);
  });

  test("calls of tools arrive in pieces and are whole in the end", async () => {
    const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const tools = [{ type: "function", function: { name: "weather", parameters } }];
    const { answer, deltas } = await run({ messages, tools, tool_choice: "required" });
    const [call] = answer.message.tool_calls ?? [];
    expect(call?.function).toMatchObject({ name: "weather" });
    const pieces = deltas.flatMap(({ tool_calls }) => tool_calls ?? []);
    const text = pieces.map((piece) => piece.function?.arguments ?? "").join("");
    expect(call?.function).toMatchObject({ arguments: text });
    expect(JSON.parse(text)).toHaveProperty("city");
  });

  test("what a server refuses is no other attempt's task", async () => {
    const refused = run({ messages, max_tokens: 1_000_000 });
    await expect(refused).rejects.toMatchObject({ code: "invalid_input", retryable: false });
    await expect(run({ messages, model: "none" })).rejects.toMatchObject({ code: "unknown_model", retryable: false });
    await expect(run({ messages, extra: { n: 2 } })).rejects.toMatchObject({ code: "invalid_input" });
  });

  test("without a server it waits for one", async () => {
    const alone = testRunner(chat, { input: { messages } });
    await expect(alone).rejects.toMatchObject({ code: "model_unavailable", retryable: true });
  });
});

describe("the next attempt at a chat", () => {
  const begun: ChatDelta[] = [];
  let whole: Answer;
  beforeAll(async () => {
    const { answer, deltas } = await run({ messages, extra: { stop_token_ids: [] } });
    whole = answer;
    // Ten tokens of it, as they left.
    const short = await run({ messages, max_tokens: 10 });
    begun.push(...short.deltas.slice(0, -1));
    expect(textOf(deltas)).toStartWith(textOf(begun));
  });

  test("goes on from what was said", async () => {
    const { answer, deltas, reset } = await run({ messages }, begun);
    expect(reset).toBe(false);
    expect(textOf(begun) + textOf(deltas)).toBe(whole.message.content ?? "");
    expect(answer.message).toEqual(whole.message);
    expect(answer.usage).toEqual(whole.usage); // as if one call had made it
  });

  test("makes no more tokens than were asked for", async () => {
    const { answer, deltas } = await run({ messages, max_tokens: 25 }, begun);
    expect(answer.finish_reason).toBe("length");
    expect(answer.usage.completion_tokens).toBe(25);
    expect(tokensOf(deltas)).toBe(15);
  });

  test("asks nobody where all was said", async () => {
    const end = { finish_reason: "stop", usage: whole.usage, model: "m" };
    const earlierDeltas = [...begun, end];
    const { output, deltas, reset } = await testRunner(chat, { input: { messages }, earlierDeltas });
    expect(output).toEqual({ message: { role: "assistant", content: textOf(begun) }, ...end });
    expect(deltas).toEqual([]);
    expect(reset).toBe(false);
  });

  const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
  const schema = {
    type: "object",
    properties: { a: { type: "integer" } },
    required: ["a"],
    additionalProperties: false,
  };
  const json = { type: "json_schema", json_schema: { name: "a", schema } };
  const formed: readonly (readonly [string, object, readonly ChatDelta[]])[] = [
    ["tools", { messages, tools }, [{ content: "a", tokens: 1 }]],
    ["a schema", { messages, response_format: json }, [{ content: "{", tokens: 1 }]],
    [
      "vLLM's constraints",
      { messages, extra: { structured_outputs: { choice: ["a"] } } },
      [{ content: "a", tokens: 1 }],
    ],
    ["thoughts", { messages }, [{ reasoning: "so", tokens: 1 }]],
    [
      "a message of its own to go on with",
      { messages: [...messages, { role: "assistant", content: "a" }] },
      [{ content: "b", tokens: 1 }],
    ],
    ["all its tokens spent", { messages, max_tokens: 10 }, [{ content: "a", tokens: 10 }]],
  ];
  for (const [what, input, earlier] of formed) {
    test(`starts again with ${what}, and says so`, async () => {
      const { answer, deltas, reset } = await run(input, earlier);
      expect(reset).toBe(true);
      expect(textOf(deltas)).toBe(answer.message.content ?? "");
    });
  }
});

describe("a completion", () => {
  test("its deltas are its text, and the next attempt goes on", async () => {
    const input = { prompt: "The mill", max_tokens: 24, extra: { ignore_eos: true } };
    const first = await run(input, [], completion);
    const pieces = first.deltas as readonly { readonly text?: string }[];
    expect(pieces.map(({ text }) => text ?? "").join("")).toBe(first.answer.text);
    const begun = (await run({ ...input, max_tokens: 8 }, [], completion)).deltas.slice(0, -1);
    const second = await run(input, begun, completion);
    expect(second.reset).toBe(false);
    // The text so far is cut into tokens anew, as part of the prompt: one more or less where it joins.
    const { completion_tokens, prompt_tokens } = second.answer.usage;
    expect(completion_tokens).toBe(24);
    expect(Math.abs(prompt_tokens - first.answer.usage.prompt_tokens)).toBeLessThanOrEqual(1);
  });
});
