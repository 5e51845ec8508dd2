// Tool calls as text, and malformed ones: alone, and as a client asks for them.
import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { withMalformed } from "./malformed.ts";
import { createRng } from "./rng.ts";
import { type Simulator, startSimulator } from "./simulator.ts";
import { toolText } from "./tool-text.ts";

const calls = [
  { id: "1", name: "get_weather", arguments: '{"city":"Köln [a, b]","days":2,"units":{"metric":true,"wind":null}}' },
  { id: "2", name: "say", arguments: '{"text":"It\'s\\n\\"so\\"","tags":["a","b"],"none":{}}' },
];

test("the formats of vLLM's parsers", () => {
  const weather = '{"city": "Köln [a, b]", "days": 2, "units": {"metric": true, "wind": null}}';
  const say = '{"text": "It\'s\\n\\"so\\"", "tags": ["a", "b"], "none": {}}';
  expect(toolText(calls, "hermes")).toBe(
    `<tool_call>\n{"name": "get_weather", "arguments": ${weather}}\n</tool_call>\n` +
      `<tool_call>\n{"name": "say", "arguments": ${say}}\n</tool_call>`,
  );
  expect(toolText(calls, "llama3_json")).toBe(
    `{"name": "get_weather", "parameters": ${weather}}; {"name": "say", "parameters": ${say}}`,
  );
  expect(toolText(calls, "mistral")).toBe(
    `[TOOL_CALLS][{"name": "get_weather", "arguments": ${weather}}, {"name": "say", "arguments": ${say}}]`,
  );
  expect(toolText(calls, "pythonic")).toBe(
    `[get_weather(city='Köln [a, b]', days=2, units={'metric': True, 'wind': None}), ` +
      `say(text='It\\'s\\n"so"', tags=['a', 'b'], none={})]`,
  );
});

test("the spaces change nothing of the arguments", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (given) => {
      const text = toolText([{ id: "1", name: "f", arguments: JSON.stringify(given) }], "mistral");
      expect(JSON.parse(text.slice("[TOOL_CALLS]".length))).toEqual([
        { name: "f", arguments: JSON.parse(JSON.stringify(given)) },
      ]);
    }),
  );
});

test("malformed arguments are no JSON object, whatever they were; the share of them is as asked", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), (given, seed) => {
      const whole = [{ id: "1", name: "f", arguments: JSON.stringify(given) }];
      const [call] = withMalformed(whole, { messages: [] }, 1, createRng(seed));
      let value: unknown = null;
      try {
        value = JSON.parse(call?.arguments ?? "");
      } catch {}
      expect(typeof value === "object" && value !== null).toBe(false);
    }),
  );
  const rng = createRng("share");
  const many = Array.from({ length: 2_000 }, () => ({ id: "1", name: "f", arguments: '{"a":1}' }));
  const broken = withMalformed(many, { messages: [] }, 0.25, rng).filter((call) => call.arguments !== '{"a":1}');
  expect(broken.length / many.length).toBeWithin(0.2, 0.3);
});

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ malformedArguments: "1" });
});
afterAll(() => simulator.stop());

const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tool = (strict: boolean) => ({
  type: "function",
  function: { name: "get_weather", description: "The weather of a city", parameters, strict },
});
interface Message {
  readonly content: string | null;
  readonly tool_calls?: { function: { arguments: string } }[];
}
async function ask(body: object, results: object[] = []): Promise<{ message: Message; finish_reason: string }> {
  const messages = [{ role: "user", content: "What is the weather in Paris and London?" }, ...results];
  const request = { method: "POST", body: JSON.stringify({ messages, tools: [tool(false)], ...body }) };
  const answer = await (await fetch(`${simulator.url}/v1/chat/completions`, request)).json();
  return (
    (answer as { choices: { message: Message; finish_reason: string }[] }).choices[0] ?? {
      message: { content: null },
      finish_reason: "",
    }
  );
}
const areObjects = ({ message }: { message: Message }): boolean[] =>
  (message.tool_calls ?? []).map((call) => {
    try {
      return typeof JSON.parse(call.function.arguments) === "object";
    } catch {
      return false;
    }
  });

test("by the settings calls are malformed where nothing constrains them, by the request they are not", async () => {
  expect(areObjects(await ask({}))).toEqual([false, false]);
  expect(areObjects(await ask({ vllm_xargs: { sim_malformed_arguments: 0 } }))).toEqual([true, true]);
  expect(areObjects(await ask({ tool_choice: "required" }))).toEqual([true, true]);
  expect(areObjects(await ask({ tools: [tool(true)] }))).toEqual([true, true]);
  expect(await ask({ seed: 4 })).toMatchObject({
    message: {
      tool_calls:
        (await ask({ seed: 4 })).message.tool_calls?.map(({ function: given }) => ({ function: given })) ?? [],
    },
  });
});

test("calls as text end as text does, and are not made again once they have results", async () => {
  const body = { vllm_xargs: { sim_tool_format: "pythonic", sim_malformed_arguments: 0 } };
  const { message, finish_reason } = await ask(body);
  expect([finish_reason, message.content, message.tool_calls]).toEqual([
    "stop",
    "[get_weather(city='Paris'), get_weather(city='London')]",
    undefined,
  ]);
  const results = [
    { role: "assistant", content: message.content },
    { role: "tool", content: "Paris: rain." },
    { role: "tool", content: "London: fog." },
  ];
  const { message: second } = await ask(body, results);
  expect(second.content).toContain("rain");
  expect(second.content).not.toContain("get_weather(");
});
