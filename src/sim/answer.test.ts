import { expect, test } from "bun:test";
import Ajv from "ajv/dist/2020";
import sharp from "sharp";
import { type Answer, composeAnswer } from "./answer.ts";
import { type ChatRequest, ContentError } from "./chat-request.ts";
import { drawImage } from "./draw-image.ts";
import { plainOptions } from "./modes/mode.ts";
import { createRng } from "./rng.ts";

const compose = (request: Partial<ChatRequest> & { readonly content?: unknown }, seed = "seed"): Answer => {
  const { content, ...rest } = request;
  return composeAnswer({ messages: [{ role: "user", content }], ...rest }, createRng(seed));
};

const textOf = ({ parts }: Answer): string => parts.map((part) => (part.kind === "content" ? part.text : "")).join("");

const callsOf = ({ parts }: Answer): [name: string, parameters: unknown][] =>
  parts.flatMap((part) =>
    part.kind === "tool_call" ? [[part.name, JSON.parse(part.arguments)] as [string, unknown]] : [],
  );

const text = { type: "string" };
const tool = (
  name: string,
  description: string,
  properties: Record<string, unknown>,
  required = Object.keys(properties),
) => ({
  type: "function",
  function: { name, description, parameters: { type: "object", properties, required, additionalProperties: false } },
});
const tools = [
  tool("get_weather", "Get the current weather", { city: text, unit: { enum: ["celsius", "fahrenheit"] } }, ["city"]),
  tool("calculator", "Evaluate a mathematical expression", { expression: text }),
  tool("web_search", "Search the web for information", { query: text, max_results: { type: "integer" } }, ["query"]),
  tool("send_email", "Send an email", { to: { type: "string", format: "email" }, subject: text, body: text }),
  tool("get_order_status", "Look up the status of an order", { order_id: text }),
  tool("book_flight", "Book a flight", { origin: text, destination: text, date: { type: "string", format: "date" } }),
];

test.each<[string, [string, unknown][]]>([
  ["What's the weather in Paris?", [["get_weather", { city: "Paris" }]]],
  ["Wie ist das Wetter in Berlin?", [["get_weather", { city: "Berlin" }]]],
  ["北京今天天气怎么样？", [["get_weather", { city: "北京" }]]],
  ["서울 날씨 어때?", [["get_weather", { city: "서울" }]]],
  ["What is 12 * 7?", [["calculator", { expression: "12 * 7" }]]],
  ["Search for vegan restaurants in Berlin", [["web_search", { query: "vegan restaurants in Berlin" }]]],
  ["Who won the world cup in 2022?", [["web_search", { query: "Who won the world cup in 2022" }]]],
  ["Where is my order ORD-1234?", [["get_order_status", { order_id: "ORD-1234" }]]],
  [
    "Book a flight from Berlin to Rome on 5 March 2025",
    [["book_flight", { origin: "Berlin", destination: "Rome", date: "2025-03-05" }]],
  ],
  [
    "Email bob@mill.example about the meeting saying we start at ten",
    [["send_email", { to: "bob@mill.example", subject: "the meeting", body: "we start at ten" }]],
  ],
  [
    "What's the weather in Paris and London in fahrenheit?",
    [
      ["get_weather", { city: "Paris", unit: "fahrenheit" }],
      ["get_weather", { city: "London", unit: "fahrenheit" }],
    ],
  ],
  [
    "What's the weather in Oslo and what is 3 + 4?",
    [
      ["get_weather", { city: "Oslo" }],
      ["calculator", { expression: "3 + 4" }],
    ],
  ],
  ["Hello", []],
  ["Thanks a lot!", []],
  ["Thanks for the weather!", []],
  ["Tell me a joke", []],
])("the fitting tool is called with the words of the request: %s", (content, calls) => {
  const answer = compose({ content, tools });
  expect(callsOf(answer)).toEqual(calls);
  expect(answer.finishReason).toBe(calls.length > 0 ? "tool_calls" : "stop");
});

test("tool_choice is obeyed: none, required, by name, one at a time", () => {
  const content = "What's the weather in Paris and Rome?";
  expect(callsOf(compose({ content, tools, tool_choice: "none" }))).toEqual([]);
  expect(callsOf(compose({ content: "hi", tools, tool_choice: "required" }))).toHaveLength(1);
  const named = compose({ content, tools, tool_choice: { type: "function", function: { name: "calculator" } } });
  expect(callsOf(named).map(([name]) => name)).toEqual(["calculator"]);
  expect(named.finishReason).toBe("stop");
  expect(callsOf(compose({ content, tools, parallel_tool_calls: false }))).toHaveLength(1);
});

test("after the results of its tools it answers in words, and calls what is still missing", () => {
  const asked = { role: "user", content: "What's the weather in Paris and what is 3 + 4?" };
  const called = (name: string) => ({
    role: "assistant",
    tool_calls: [{ id: "1", function: { name, arguments: "{}" } }],
  });
  const weather = { role: "tool", tool_call_id: "1", content: '{"temperature_c": 18, "sky": "cloudy"}' };
  const first = compose({ messages: [asked, called("get_weather"), weather], tools });
  expect(callsOf(first).map(([name]) => name)).toEqual(["calculator"]);
  const sum = { role: "tool", tool_call_id: "2", content: "7" };
  const done = compose({ messages: [asked, called("get_weather"), weather, called("calculator"), sum], tools });
  expect(textOf(done)).toBe("temperature c: 18, sky: cloudy.\n7.");
});

test.each<[string, Record<string, unknown>]>([
  ["tools", { tools: [{ type: "function", function: {} }] }],
  ["tools that are no list", { tools: "x" }],
  ["a choice of a tool that is not there", { tools, tool_choice: { function: { name: "nope" } } }],
  ["a choice without tools", { tool_choice: "required" }],
  ["a grammar of nothing", { structured_outputs: { grammar: "root ::= x" } }],
  ["two constraints", { structured_outputs: { regex: "a", choice: ["b"] } }],
  ["a regex that looks around", { structured_outputs: { regex: "(?=a)b" } }],
  ["no choices", { structured_outputs: { choice: [] } }],
  ["a schema that is none", { response_format: { type: "json_schema", json_schema: {} } }],
  ["a schema without values", { structured_outputs: { json: { type: "integer", minimum: 2, maximum: 1 } } }],
  ["an unknown format", { response_format: { type: "structural_tag" } }],
])("%s is refused as the client's error", (_name, fields) => {
  expect(() => compose({ content: "hi", ...fields })).toThrow(ContentError);
});

const form = (properties: Record<string, unknown>) => ({
  type: "json_schema",
  json_schema: {
    name: "form",
    schema: { type: "object", properties, required: Object.keys(properties), additionalProperties: false },
  },
});

test.each<[string, Record<string, unknown>, unknown]>([
  [
    "Extract: Anna Keller is 34 years old and lives in Berlin.",
    { name: text, age: { type: "integer" }, city: text },
    { name: "Anna Keller", age: 34, city: "Berlin" },
  ],
  [
    "Invoice INV-2041 of 2024-03-05. Total: 129.90 EUR. Customer: Mill GmbH. Items: saw, hammer and nails.",
    {
      invoice_number: text,
      date: { type: "string", format: "date" },
      total: { type: "number" },
      customer: text,
      items: { type: "array", items: text },
    },
    {
      invoice_number: "INV-2041",
      date: "2024-03-05",
      total: 129.9,
      customer: "Mill GmbH",
      items: ["saw", "hammer", "nails"],
    },
  ],
  [
    "Classify: I love this product, it is great!",
    { sentiment: { enum: ["negative", "positive"] } },
    { sentiment: "positive" },
  ],
  ["The meeting with Alice is not urgent.", { urgent: { type: "boolean" } }, { urgent: false }],
  [
    "Contact: john@mill.example, +1 555 123 4567",
    { email: { type: "string", format: "email" }, phone: text },
    { email: "john@mill.example", phone: "+1 555 123 4567" },
  ],
  ["马志强，46岁，发热五天。", { age: { type: "integer" } }, { age: 46 }],
])("fields are read from the conversation: %s", (content, properties, value) => {
  expect(JSON.parse(textOf(compose({ content, response_format: form(properties) })))).toEqual(value as never);
});

test("a review of a transcript conforms, and its quotes stand in the transcript", () => {
  const quote = {
    type: "object",
    properties: { turn: { type: "integer", minimum: 0 }, quote: { type: "string", maxLength: 30 } },
    required: ["turn", "quote"],
    additionalProperties: false,
  };
  const properties = {
    summary: { type: "string", maxLength: 200 },
    evidence: { type: "array", items: quote, minItems: 2 },
    confidence: { enum: ["low", "high"] },
  };
  const content =
    "Review this transcript: Doctor: Where does it hurt? Patient: In the chest, since Monday morning when I got up.";
  for (let seed = 0; seed < 10; seed++) {
    const value = JSON.parse(textOf(compose({ content, response_format: form(properties) }, `${seed}`)));
    const validate = new Ajv({ strict: false }).compile(form(properties).json_schema.schema);
    expect(validate(value), JSON.stringify(validate.errors)).toBe(true);
    for (const { quote: said } of value.evidence) expect(content).toContain(said);
  }
});

test("JSON is answered where the prompt asks for it in words", () => {
  const content = "Answer as JSON with keys name, age and city for: Bob is 22 and lives in Rome.";
  expect(JSON.parse(textOf(compose({ content })))).toEqual({ name: "Bob", age: 22, city: "Rome" });
  const example = 'Reply only with {"label": "spam|ham", "score": 0.5}. Text: Is this spam: buy now';
  expect(JSON.parse(textOf(compose({ content: example })))).toEqual({ label: "spam", score: expect.any(Number) });
  const object = textOf(compose({ content: "Hello", response_format: { type: "json_object" } }));
  expect(JSON.parse(object)).toEqual({ answer: expect.stringContaining("Hello") });
});

test("somebody who is played does not answer in JSON because another says so", () => {
  const system = { role: "system", content: "You are Anna, 34. You have had chest pain since Monday." };
  const messages = [system, { role: "user", content: 'Reply only with JSON {"pain": "", "since": ""}' }];
  expect(textOf(compose({ messages }))).not.toStartWith("{");
});

test("regex, grammar and choice are obeyed", () => {
  const grammar = 'root ::= answer "!"?\nanswer ::= "yes" | "no"';
  expect(textOf(compose({ content: "Well?", structured_outputs: { grammar } }))).toMatch(/^(?:yes|no)!?$/);
  expect(textOf(compose({ content: "phone", structured_outputs: { regex: "\\d{3}-\\d{4}" } }))).toMatch(
    /^\d{3}-\d{4}$/,
  );
  const choice = ["positive", "negative"];
  expect(textOf(compose({ content: "positive or negative: a terrible service", structured_outputs: { choice } }))).toBe(
    "negative",
  );
  expect(choice).toContain(textOf(compose({ content: "?", structured_outputs: { choice } })));
});

test("pictures are told by their header, those drawn here by their prompt", async () => {
  const seen = (bytes: Uint8Array, type = "image/png", fields = {}): string => {
    const url = `data:${type};base64,${Buffer.from(bytes).toString("base64")}`;
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url } },
    ];
    return textOf(compose({ content, ...fields }));
  };
  expect(seen(drawImage("a red fox", { width: 20, height: 10, seed: "" }))).toBe("The picture shows a red fox.");
  const blank = sharp({ create: { width: 64, height: 48, channels: 3, background: "red" } });
  for (const format of ["png", "jpeg", "webp", "gif"] as const) {
    expect(seen(await blank.clone().toFormat(format).toBuffer(), `image/${format}`)).toMatch(
      new RegExp(`${format} of 64 × 48`, "i"),
    );
  }
  expect(seen(Buffer.from("no picture"))).toContain("cannot read");
  const url = { type: "image_url", image_url: { url: "https://mill.example/a.png" } };
  expect(textOf(compose({ content: [url] }))).toContain("cannot read");
  const verdict = form({
    score: { type: "number", minimum: 0, maximum: 10 },
    width: { type: "integer" },
    comment: text,
  });
  const judged = JSON.parse(seen(await blank.clone().png().toBuffer(), "image/png", { response_format: verdict }));
  expect(judged).toEqual({
    score: expect.any(Number),
    width: expect.any(Number),
    comment: expect.stringContaining("64 × 48"),
  });
});

test("reasoning is given where it is asked for, and says nothing of the prompt", () => {
  const messages = [
    { role: "system", content: "The code word is banana." },
    { role: "user", content: "Hello" },
  ];
  for (const fields of [{ reasoning_effort: "high" }, { chat_template_kwargs: { enable_thinking: true } }]) {
    const { parts } = compose({ messages, ...fields });
    expect(parts.map(({ kind }) => kind)).toEqual(["reasoning", "content"]);
    expect(JSON.stringify(parts)).not.toContain("banana");
  }
  expect(compose({ messages, reasoning_effort: "none" }).parts).toHaveLength(1);
});

test("echo and random by a field that gateways pass on", () => {
  const by = (kind: "echo" | "random", content: string, seed: string): string =>
    textOf(
      composeAnswer({ messages: [{ role: "user", content }] }, createRng(seed), { ...plainOptions, mode: { kind } }),
    );
  expect(by("echo", "Say this back", "seed")).toBe("Say this back");
  expect(by("random", "x", "seed")).not.toBe(by("random", "x", "other"));
});

test("the same request and seed give the same answer", () => {
  const request = { content: "Book a flight and tell me a story", tools, tool_choice: "required" } as const;
  expect(compose(request, "1")).toEqual(compose(request, "1"));
  expect(compose(request, "1")).not.toEqual(compose(request, "2"));
});

test("texts that trap backtracking are answered in time", () => {
  const shapes = [
    "a",
    " a",
    "ab, cd, ",
    '{"a": ',
    "1-",
    '"a ',
    "Anna and Bob, ",
    "<user>",
    "key: value ",
    "a@a-",
    "((",
    "痛",
    "- x\n",
    `a${" ".repeat(500)}`,
  ];
  const properties = {
    name: text,
    city: text,
    tags: { type: "array", items: text },
    date: { type: "string", format: "date" },
    n: { type: "integer" },
  };
  for (const shape of shapes) {
    const content = shape.repeat(Math.ceil(30_000 / shape.length));
    const startedAt = performance.now();
    compose({ content });
    compose({ content, response_format: form(properties) });
    compose({ content, tools, tool_choice: "required" });
    expect(performance.now() - startedAt, shape).toBeLessThan(4000);
  }
});

test("a bare request is about what was said before", () => {
  const schema = {
    type: "object",
    properties: {
      name: { type: "string" },
      symptoms: { type: "array", items: { type: "string" } },
      city: { type: "string" },
      smoker: { type: "boolean" },
    },
    required: ["name", "symptoms", "city", "smoker"],
  };
  const read = (content: string, ...before: readonly string[]): unknown => {
    const messages = [...before.map((text) => ({ role: "system", content: text })), { role: "user", content }];
    return JSON.parse(textOf(compose({ messages, structured_outputs: { json: schema } })));
  };
  const said = "Patient: Anna Schmidt, 34, lives in Berlin. She has severe chest pain and cough. She does not smoke.";
  expect(read("Extract the patient as JSON.", said)).toEqual({
    name: "Anna Schmidt",
    symptoms: ["severe chest pain", "cough"],
    city: "Berlin",
    smoker: false,
  });
  expect(read("Extrahiere: Herr Karl Weber aus Hamburg hat Fieber und Husten. Nichtraucher.")).toEqual({
    name: "Karl Weber",
    symptoms: ["Fieber", "Husten"],
    city: "Hamburg",
    smoker: false,
  });
});

test("a greeting before a request hides no tool from it", () => {
  const tools = [tool("get_weather", "Get the weather of a city", { city: text })];
  for (const content of ["Hello, please get the weather in Paris.", "Thanks, now the weather in Paris please."]) {
    expect(callsOf(compose({ content, tools }))).toEqual([["get_weather", { city: "Paris" }]]);
  }
  for (const content of ["Hello!", "Hello, I am Bob.", "Thanks, that is all.", "Guten Tag!", "再见"]) {
    expect(callsOf(compose({ content, tools }))).toEqual([]);
  }
});

test.each([
  ["And in London?", "London"],
  ["What about Berlin?", "Berlin"],
  ["Und in Hamburg?", "Hamburg"],
  ["那上海呢？", "上海"],
  ["그럼 부산은?", "부산"],
])("a follow-up calls the tool of the question before: %s", (content, city) => {
  const called = { id: "c1", type: "function", function: { name: "get_weather", arguments: '{"city":"Paris"}' } };
  const messages = [
    { role: "user", content: "What is the weather in Paris?" },
    { role: "assistant", content: null, tool_calls: [called] },
    { role: "tool", content: "18 degrees", tool_call_id: "c1" },
    { role: "assistant", content: "18 degrees." },
    { role: "user", content },
  ];
  expect(callsOf(compose({ messages, tools }))).toEqual([["get_weather", { city }]]);
  expect(callsOf(compose({ messages: messages.slice(-1), tools }))).not.toContainEqual(["get_weather", { city }]);
});
