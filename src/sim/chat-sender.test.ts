import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AnswerPart } from "./answer.ts";
import { chatSender } from "./chat-sender.ts";
import { planAnswer } from "./plan.ts";
import { readSampling } from "./sampling.ts";
import { textSender } from "./text-sender.ts";

interface Delta {
  readonly role?: string;
  readonly content?: string;
  readonly reasoning?: string;
  readonly tool_calls?: readonly { index: number; id?: string; function: { name?: string; arguments: string } }[];
}
interface Choice {
  readonly index: number;
  readonly delta: Delta;
  readonly finish_reason: string | null;
}

/** What a client puts together from deltas. */
function gather(choices: readonly Choice[]) {
  let [content, reasoning] = ["", ""];
  const calls: { id: string; type: string; function: { name: string; arguments: string } }[] = [];
  for (const { delta } of choices) {
    content += delta.content ?? "";
    reasoning += delta.reasoning ?? "";
    for (const { index, id, function: called } of delta.tool_calls ?? []) {
      const call = calls[index];
      if (call) call.function.arguments += called.arguments;
      else
        calls.push({
          id: id ?? "",
          type: "function",
          function: { name: called.name ?? "", arguments: called.arguments },
        });
    }
  }
  return {
    role: choices[0]?.delta.role,
    content: content === "" && calls.length > 0 ? null : content,
    refusal: null,
    reasoning: reasoning === "" ? null : reasoning,
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

const text = fc.string({ unit: "grapheme", maxLength: 40 });
const parts: fc.Arbitrary<AnswerPart[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constantFrom("reasoning" as const, "content" as const), text }),
    fc.record({
      kind: fc.constant("tool_call" as const),
      id: fc.uuid(),
      name: fc.constantFrom("weather", "time"),
      arguments: fc.object({ maxDepth: 1 }).map((value) => JSON.stringify(value)),
    }),
  ),
  { minLength: 1, maxLength: 5 },
);

const prompt = Array.from({ length: 7 }, () => " a");
const shared = { id: "x", model: "m", fingerprint: "sim", prompt, echoed: "", topPromptLogprobs: null };

test("deltas give the whole message, however many tokens go into one event", () => {
  fc.assert(
    fc.property(parts, fc.array(fc.integer({ min: 1, max: 9 })), fc.boolean(), (said, strides, usage) => {
      const body = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: usage } };
      const sampling = readSampling(body, []);
      const plans = [planAnswer({ parts: said, finishReason: "stop" }, sampling, 10_000)];
      const tokens = plans[0]?.pieces.length ?? 0;
      const options = { ...shared, model: 'a "model"', sampling, plans };
      const sender = chatSender({ ...options, topLogprobs: null });
      const chunks: { choices: Choice[]; usage?: { completion_tokens: number } }[] = [];
      for (let at = 0, turn = 0; at < tokens; turn++) {
        const to = Math.min(tokens, at + (strides[turn] ?? 1));
        chunks.push(...sender.events(0, at, to).map((event) => JSON.parse(event)));
        at = to;
      }
      const choices = chunks.flatMap((chunk) => chunk.choices);
      expect(choices.map((choice) => choice.finish_reason).filter((reason) => reason !== null)).toEqual(["stop"]);
      expect(choices.at(-1)?.finish_reason).toBe("stop");
      const last = sender.lastEvents().map((event) => JSON.parse(event));
      expect(last).toMatchObject([{ choices: [], usage: { prompt_tokens: 7, completion_tokens: tokens } }]);
      expect(chunks.every((chunk) => (chunk.usage !== undefined) === usage)).toBe(true);
      const whole = sender.whole() as { choices: { message: unknown }[]; usage: unknown };
      expect(gather(choices)).toEqual(whole.choices[0]?.message as never);
      expect(whole.usage).toEqual(last[0].usage);
    }),
  );
});

test("a call begins with its id and name, and its arguments come in pieces", () => {
  const said: AnswerPart[] = [
    { kind: "tool_call", id: "call_1", name: "weather", arguments: '{"city":"Köln, \\"Dom\\""}' },
  ];
  const sampling = readSampling({}, []);
  const plans = [planAnswer({ parts: said, finishReason: "tool_calls" }, sampling, 100)];
  const options = { ...shared, sampling, plans };
  const sender = chatSender({ ...options, topLogprobs: null });
  const events = sender.events(0, 0, 2).map((event) => (JSON.parse(event) as { choices: Choice[] }).choices[0]?.delta);
  expect(events).toEqual([
    { role: "assistant", content: "" },
    {
      tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } } as never],
    },
    { tool_calls: [{ index: 0, function: { arguments: expect.stringMatching(/^.{1,6}$/) } }] },
  ]);
});

test("log probabilities are of the tokens of their event, also of several and of a stop string's", () => {
  const sampling = readSampling({ stop: "wheel" }, []);
  const answer = {
    parts: [{ kind: "content" as const, text: "The mill has a wheel." }],
    finishReason: "stop" as const,
  };
  const plans = [planAnswer(answer, sampling, 100)];
  const pieces = plans[0]?.pieces ?? [];
  const both = { ...shared, sampling, plans, topLogprobs: 1 };
  const chat = chatSender(both);
  const tokens = chat
    .events(0, 0, 3)
    .concat(chat.events(0, 3, pieces.length))
    .flatMap((event) => {
      const { choices } = JSON.parse(event) as { choices: { logprobs: { content: { token: string }[] } | null }[] };
      return choices[0]?.logprobs?.content.map((entry) => entry.token) ?? [];
    });
  expect(tokens).toEqual([...pieces]);
  const plain = textSender({ ...both, promptOnly: false, prompts: [["Go"]], echo: true });
  plain.events(0, 0, 2);
  const [second] = plain.events(0, 2, 4).map((event) => JSON.parse(event));
  expect(second.choices[0].logprobs.tokens).toEqual(pieces.slice(2, 4));
  expect(second.choices[0].logprobs.text_offset[0]).toBe("Go".length + pieces.slice(0, 2).join("").length);
});
