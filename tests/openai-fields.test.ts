// vLLM's own fields through the whole service, with the official SDK as its client: what goes in reaches the model
// server unchanged, and so does what comes back.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import { BadRequestError } from "openai";
import { type LlmStack, model, startLlmStack } from "./llm-stack.ts";

let all: LlmStack;
let client: OpenAI;
const script = join(tmpdir(), `millrace-${crypto.randomUUID()}.yaml`);
beforeAll(async () => {
  await Bun.write(
    script,
    `
refund:
  - when: {step: 1}
    calls: [{name: get_order, arguments: {id: 17}}]
  - text: "The order says: {{result}}"
`,
  );
  all = await startLlmStack({}, { script });
  client = all.client;
});
afterAll(async () => {
  await all.stop();
  await rm(script, { force: true });
});

const messages = [
  { role: "system" as const, content: "The mill stands at the river. The wheel is turned by water." },
  { role: "user" as const, content: "What turns the wheel?" },
];

/** vLLM's fields, which the SDK passes on. */
interface Told {
  readonly prompt_logprobs?: (Record<string, { logprob: number; rank: number; decoded_token: string }> | null)[];
}

test("log probabilities of the prompt, of a chat and of a text", async () => {
  const chat = (await client.chat.completions.create({
    ...{ model, messages, max_tokens: 1 },
    ...{ prompt_logprobs: 2 },
  })) as OpenAI.ChatCompletion & Told;
  expect(chat.prompt_logprobs).toHaveLength(chat.usage?.prompt_tokens ?? 0);
  const text = await client.completions.create({
    ...{ model, prompt: "The mill stands", max_tokens: 1 },
    ...{ prompt_logprobs: 2 },
  });
  const [none, ...rest] = (text.choices[0] as Told | undefined)?.prompt_logprobs ?? [];
  expect(none).toBeNull();
  expect(rest.map((entry) => Object.values(entry ?? {})[0]?.decoded_token)).toEqual([" mill", " stand", "s"]);
  const streamed = { model, messages, stream: true as const, ...{ prompt_logprobs: 2 } };
  expect(await client.chat.completions.create(streamed).catch((error: unknown) => error)).toBeInstanceOf(
    BadRequestError,
  );
});

test("completions: an echo with log probabilities, also of the prompt alone", async () => {
  const request = { model, prompt: "The mill stands", logprobs: 1, echo: true };
  const { choices } = await client.completions.create({ ...request, max_tokens: 2 });
  const { tokens = [], token_logprobs = [], text_offset = [] } = choices[0]?.logprobs ?? {};
  expect([choices[0]?.text, tokens.slice(0, 4)]).toEqual([tokens.join(""), ["The", " mill", " stand", "s"]]);
  expect([token_logprobs[0], token_logprobs.length, text_offset[1]]).toEqual([null as never, 6, 3]);
  const alone = await client.completions.create({ ...request, max_tokens: 0 });
  expect(alone.choices[0]).toMatchObject({ text: request.prompt, logprobs: { tokens: tokens.slice(0, 4) } });
});

test("a stop token of the request ends an answer, whole and as a stream, and is told", async () => {
  const prompt = "The mill stands";
  const { tokens = [] } =
    (await client.completions.create({ model, prompt, max_tokens: 4, logprobs: 1 })).choices[0]?.logprobs ?? {};
  const tokenized = await fetch(`${all.sim.url}/tokenize`, {
    method: "POST",
    body: JSON.stringify({ prompt: tokens[2] }),
  });
  const stop_token_ids = ((await tokenized.json()) as { tokens: number[] }).tokens;
  const request = { model, prompt, max_tokens: 9, ...{ stop_token_ids } };
  const whole = (await client.completions.create(request)).choices[0];
  expect(whole).toMatchObject({
    text: tokens.slice(0, 2).join(""),
    finish_reason: "stop",
    stop_reason: stop_token_ids[0],
  });
  const chunks = await Array.fromAsync(await client.completions.create({ ...request, stream: true }));
  expect(chunks.map(({ choices }) => choices[0]?.text ?? "").join("")).toBe(whole?.text ?? "-");
  expect(chunks.at(-1)?.choices[0]).toMatchObject({ finish_reason: "stop", stop_reason: stop_token_ids[0] });
});

test("an agent's loop against a script of the simulator", async () => {
  const asked: unknown[] = [];
  const tool = {
    type: "function" as const,
    function: {
      name: "get_order",
      description: "An order.",
      parameters: { type: "object", properties: { id: { type: "integer" } } },
      parse: JSON.parse,
      function: (given: unknown) => {
        asked.push(given);
        return "sent on Monday";
      },
    },
  };
  const request = { model, messages, tools: [tool], ...{ vllm_xargs: { sim_scenario: "refund" } } };
  for (const stream of [false, true] as const) {
    const runner = stream
      ? client.chat.completions.runTools({ ...request, stream })
      : client.chat.completions.runTools({ ...request, stream });
    expect(await runner.finalContent()).toBe("The order says: sent on Monday");
  }
  expect(asked).toEqual([{ id: 17 }, { id: 17 }]);
});
