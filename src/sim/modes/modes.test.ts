// The modes of answering as a client meets them: asked for by settings, by a header, in a body.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SettingsError } from "../settings-error.ts";
import { type Simulator, type SimulatorOptions, startSimulator } from "../simulator.ts";

const files: string[] = [];
async function write(name: string, text: string): Promise<string> {
  const path = join(tmpdir(), `millrace-${crypto.randomUUID()}-${name}`);
  files.push(path);
  await Bun.write(path, text);
  return path;
}

const rows = [
  { prompt: "What turns the wheel of the mill?", answer: "Water does.", category: "mills" },
  { prompt: "Who bakes the bread?", answer: "The baker." },
  { prompt: "Who bakes the bread?", answer: "The baker's wife." },
  { prompt: "Give me the order as JSON.", answer: '{"id": 17}' },
];
const script = `
refund:
  - when: {step: 1, user: refund}
    reasoning: "They want {{question}}"
    text: Let me look.
    calls:
      - {name: get_order, arguments: {id: 17}}
      - {name: broken, arguments: "{id: 17"}
  - when: {result: missing}
    fault: status=503; retry_after=3; message=Later.
  - when: {step: 2}
    text: "Turn {{turn}}: {{result}}"
    finish_reason: length
  - when: {user: as ever}
failing:
  - text: One two three four five.
    fault: after=2; error; message=It broke.
`;

let dataset: string;
let scripts: string;
let simulator: Simulator;
const started: Simulator[] = [];
async function start(options: SimulatorOptions): Promise<Simulator> {
  const one = await startSimulator(options);
  started.push(one);
  return one;
}
beforeAll(async () => {
  dataset = await write("rows.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"));
  scripts = await write("script.yaml", script);
  simulator = await start({ dataset, script: scripts });
});
afterAll(async () => {
  await Promise.all(started.map((one) => one.stop()));
  await Promise.all(files.map((path) => rm(path, { force: true })));
});

interface Message {
  readonly content: string | null;
  readonly reasoning: string | null;
  readonly tool_calls?: { function: { name: string; arguments: string } }[];
}
interface Answer {
  readonly choices: { message: Message; text: string; finish_reason: string }[];
  readonly error?: { message: string; code: number };
}

const post = (body: object, headers: Record<string, string> = {}, { url } = simulator, path = "/v1/chat/completions") =>
  fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
async function ask(content: string, xargs: object, more: object = {}): Promise<Answer> {
  const body = { messages: [{ role: "user", content }], vllm_xargs: xargs, ...more };
  return (await (await post(body)).json()) as Answer;
}
const textOf = ({ choices }: Answer): string => choices[0]?.message.content ?? "";

test("a mode is asked for by a header, before the body, before the settings", async () => {
  const echoing = await start({ mode: "echo" });
  const body = { messages: [{ role: "user", content: "Say this." }] };
  const template = { vllm_xargs: { sim_template: "{{turn}}: {{question}}" } };
  const by = async (more: object, headers: Record<string, string>): Promise<string> =>
    textOf((await (await post({ ...body, ...more }, headers, echoing)).json()) as Answer);
  expect(await by({}, {})).toBe("Say this.");
  expect(await by(template, {})).toBe("1: Say this.");
  expect(await by(template, { "x-sim-template": "Heard." })).toBe("Heard.");
  expect(await by(template, { "x-sim-mode": "conversation" })).not.toContain("1:");
  const completion = await post({ prompt: "Go on.", max_tokens: 50 }, {}, echoing, "/v1/completions");
  expect(((await completion.json()) as Answer).choices[0]?.text).toBe("Go on.");
});

test("a template or a scenario of the settings needs no mode; a mode goes before them", async () => {
  const said = async (options: SimulatorOptions): Promise<string> => {
    const body = { messages: [{ role: "user", content: "I want a refund" }] };
    return textOf((await (await post(body, {}, await start(options))).json()) as Answer);
  };
  expect(await said({ template: "You asked: {{question}}" })).toBe("You asked: I want a refund");
  expect(await said({ script: scripts, scenario: "refund" })).toBe("Let me look.");
  expect(await said({ script: scripts, scenario: "refund", mode: "echo" })).toBe("I want a refund");
  expect(await said({ script: scripts, dataset })).not.toContain("Let me look.");
});

test("what cannot be done is a 400 of a request, and keeps the simulator from starting", async () => {
  const refused = async (xargs: object): Promise<string> => (await ask("x", xargs)).error?.message ?? "";
  expect(await refused({ sim_mode: "dream" })).toContain("mode must be one of conversation, echo");
  expect(await refused({ sim_mode: "template" })).toContain("needs a template");
  expect(await refused({ sim_template: "{{x}}" })).toContain("has no place {{x}}");
  expect(await refused({ sim_scenario: "none" })).toContain("scenario must be one of refund, failing");
  expect(await refused({ sim_mode: ["echo"] })).toContain("sim_mode must be a text");
  expect(await refused({ sim_tool_format: "xml" })).toContain("tool_format must be one of parsed, hermes");
  expect(await refused({ sim_malformed_arguments: 2 })).toContain("a number from 0 to 1");
  const bad = await write("bad.jsonl", '{"prompt": "a", "answer": "b"}\n\n{"prompt": "a"}\n');
  const settings: [SimulatorOptions, string][] = [
    [{ mode: "dataset" }, "SIM_DATASET"],
    [{ mode: "scripted" }, "SIM_SCRIPT"],
    [{ script: scripts, scenario: "none" }, "scenario must be one of"],
    [{ dataset: bad }, `${bad}:3: answer must be a text`],
    [{ dataset: "/nowhere.jsonl" }, "/nowhere.jsonl cannot be read"],
    [{ malformedArguments: "many" }, "a number from 0 to 1"],
  ];
  for (const [options, message] of settings) {
    const error: unknown = await startSimulator(options).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SettingsError);
    expect((error as SettingsError).message).toContain(message);
  }
});

test("the settings change while it runs, all that is named or nothing", async () => {
  const own = await start({ script: scripts });
  const config = (change: object) => post(change, {}, own, "/admin/config");
  const say = async (): Promise<string> => {
    const answer = await post({ messages: [{ role: "user", content: "Hello" }] }, {}, own);
    return textOf((await answer.json()) as Answer);
  };
  const answers = { template: "{{question}}?", malformed_arguments: 0.5 };
  const changed = (await (await config({ answers })).json()) as { answers: object };
  expect(changed.answers).toEqual({ ...answers, mode: "template" });
  expect(await say()).toBe("Hello?");
  for (const wrong of [{ mode: "dataset" }, { mode: "echo", tool_format: "x" }, { modus: "echo" }, "echo"]) {
    expect((await config({ answers: wrong })).status).toBe(400);
  }
  expect((await config({ answers: { mode: "echo" }, profile: { max_num_seqs: 0 } })).status).toBe(400);
  expect(await say()).toBe("Hello?");
  expect((await config({ answers: { scenario: "failing", mode: "scripted" } })).status).toBe(200);
  expect((await post({ messages: [asked] }, {}, own)).status).toBe(200);
});

test("a dataset answers its own prompts, else the nearest one, else any; structured answers where they fit", async () => {
  const by = async (content: string, more: object = {}): Promise<string> =>
    textOf(await ask(content, { sim_mode: "dataset" }, more));
  expect(await by("  What turns the wheel of the mill?\n")).toBe("Water does.");
  expect(await by("What is it that turns the mill wheel?")).toBe("Water does.");
  const bakers = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map((seed) => by("Who bakes the bread?", { seed })));
  expect(new Set(bakers)).toEqual(new Set(["The baker.", "The baker's wife."]));
  const drawn = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map((seed) => by("Quantum chromodynamics", { seed })));
  expect(drawn.every((text) => rows.some(({ answer }) => answer === text))).toBe(true);
  expect(new Set(drawn).size).toBeGreaterThan(1);
  expect(await by("Quantum chromodynamics", { seed: 3 })).toBe(drawn[2] ?? "-");
  const schema = { type: "object", properties: { id: { type: "integer" } }, required: ["id"] };
  expect(await by("Give me the order as JSON.", { structured_outputs: { json: schema } })).toBe('{"id": 17}');
  const other = { ...schema, properties: { id: { type: "boolean" } } };
  expect(JSON.parse(await by("Give me the order as JSON.", { structured_outputs: { json: other } }))).toEqual({
    id: expect.any(Boolean),
  });
});

const asked = { role: "user", content: "A refund, please." };
const called = (result: string) => [
  asked,
  { role: "assistant", tool_calls: [{ id: "call_1", type: "function", function: { name: "get_order" } }] },
  { role: "tool", tool_call_id: "call_1", content: result },
];
const play = (messages: object[], more: object = {}, headers: Record<string, string> = {}): Promise<Response> =>
  post({ messages, vllm_xargs: { sim_scenario: "refund" }, ...more }, headers);

test("a script calls tools, answers their results, fails and ends as it is written", async () => {
  const { choices } = (await (await play([asked])).json()) as Answer;
  expect(choices[0]).toMatchObject({
    finish_reason: "tool_calls",
    message: {
      reasoning: "They want A refund, please.",
      content: "Let me look.",
      tool_calls: [
        { function: { name: "get_order", arguments: '{"id":17}' } },
        { function: { name: "broken", arguments: "{id: 17" } },
      ],
    },
  });
  const second = (await (await play(called("It was shipped."))).json()) as Answer;
  expect([textOf(second), second.choices[0]?.finish_reason]).toEqual(["Turn 1: It was shipped.", "length"]);
  const begun = [...called("It was shipped."), { role: "assistant", content: "Turn 1: It" }];
  const going = await play(begun, { continue_final_message: true, add_generation_prompt: false });
  expect(textOf((await going.json()) as Answer)).toBe(" was shipped.");
  const failed = await play(called("The order is missing."));
  expect([failed.status, failed.headers.get("retry-after")]).toEqual([503, "3"]);
  expect(await failed.text()).toContain("Later.");
  const again = [...called("The order is missing."), { role: "assistant", content: "Turn" }];
  expect((await play(again, { continue_final_message: true, add_generation_prompt: false })).status).toBe(503);
  const ever = await play([{ role: "user", content: "As ever: what is 2 + 3?" }]);
  expect(textOf((await ever.json()) as Answer)).toContain("5");
  const nothing = (await (await play([{ role: "user", content: "Hello" }])).json()) as Answer;
  expect(nothing.error).toMatchObject({ code: 400, message: "the scenario refund has no rule for turn 1, step 1" });
});

test("a script's stream, and a fault in the middle of it", async () => {
  const stream = await play([asked], { stream: true });
  const text = await stream.text();
  const chunks = [...text.matchAll(/^data: (\{.*)$/gm)].map((match) => JSON.parse(match[1] ?? ""));
  const calls = chunks.flatMap(({ choices }) => choices[0].delta.tool_calls ?? []);
  expect(
    calls
      .filter(({ index }) => index === 1)
      .map((call) => call.function.arguments)
      .join(""),
  ).toBe("{id: 17");
  expect(chunks.at(-1).choices[0].finish_reason).toBe("tool_calls");
  const failing = await post({ messages: [asked], stream: true }, { "x-sim-scenario": "failing" });
  expect(await failing.text()).toMatch(/One[\s\S]*"message":"It broke\."[\s\S]*\[DONE\]/);
  const raw = (await (await play([asked], {}, { "x-sim-tool-format": "hermes" })).json()) as Answer;
  expect([raw.choices[0]?.finish_reason, raw.choices[0]?.message.tool_calls]).toEqual(["stop", undefined]);
  expect(textOf(raw)).toStartWith('Let me look.\n<tool_call>\n{"name": "get_order", "arguments": {"id": 17}}\n');
});
