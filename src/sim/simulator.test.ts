// The simulator as its clients meet it: over real sockets, in this process.
import { afterAll, expect, test } from "bun:test";
import { type Simulator, type SimulatorOptions, startSimulator } from "./simulator.ts";
import { idOf } from "./tokenizer.ts";

const started: Simulator[] = [];
afterAll(async () => {
  await Promise.all(started.map((simulator) => simulator.stop()));
});

async function start(options: SimulatorOptions = {}): Promise<Simulator> {
  const simulator = await startSimulator(options);
  started.push(simulator);
  return simulator;
}

const chat = ({ url }: Simulator, body: object, init: RequestInit = {}): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ messages: [{ role: "user", content: "Tell me about the mill by the river." }], ...body }),
    ...init,
  });

interface Chunk {
  readonly choices: { index: number; delta: { content?: string; role?: string }; finish_reason: string | null }[];
  readonly usage?: { completion_tokens: number; prompt_tokens: number };
}

async function chunksOf(response: Response): Promise<Chunk[]> {
  const events = (await response.text()).split("\n\n").filter((event) => event !== "" && !event.startsWith(":"));
  expect(events.pop()).toBe("data: [DONE]");
  return events.map((event) => JSON.parse(event.slice("data: ".length)) as Chunk);
}

test("a stream says the same as the whole answer, token by token", async () => {
  const simulator = await start();
  const whole = (await (await chat(simulator, {})).json()) as {
    choices: { message: { content: string }; finish_reason: string }[];
    usage: { completion_tokens: number };
  };
  const chunks = await chunksOf(await chat(simulator, { stream: true, stream_options: { include_usage: true } }));
  const deltas = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? ""));
  expect(deltas.join("")).toBe(whole.choices[0]?.message.content ?? "nothing");
  expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
  expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe("stop");
  expect(chunks.at(-1)?.choices).toEqual([]);
  expect(chunks.at(-1)?.usage?.completion_tokens).toBe(whole.usage.completion_tokens);
  // The role and the usage are no tokens.
  expect(chunks.length - 2).toBe(whole.usage.completion_tokens);
});

interface Whole {
  readonly choices: { message: { content: string | null }; finish_reason: string; stop_reason: string | null }[];
  readonly usage: {
    completion_tokens: number;
    prompt_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
  };
  readonly system_fingerprint: string;
}

const wholeOf = async (simulator: Simulator, body: object): Promise<Whole> =>
  (await (await chat(simulator, body)).json()) as Whole;

const textOf = (whole: Whole): string => whole.choices[0]?.message.content ?? "";

test("the same body and seed has the same answer, alone or among a hundred others", async () => {
  const simulator = await start({ profile: "3b-l40s", speedup: 500 });
  const bodies = Array.from({ length: 100 }, (_, index) => ({
    seed: index % 2 === 0 ? index : undefined,
    n: 1 + (index % 3),
    logprobs: index % 5 === 0,
    messages: [{ role: "user", content: `What does number ${index} mean for the mill?` }],
  }));
  const strip = ({ choices, usage }: Whole) => ({ choices, tokens: usage.completion_tokens });
  const together = await Promise.all(bodies.map(async (body) => strip(await wholeOf(simulator, body))));
  const other = await start();
  for (const [index, body] of bodies.entries())
    expect(strip(await wholeOf(other, body))).toEqual(together[index] as never);
});

test("another seed, of the request or of the simulator, draws anew", async () => {
  const answersOf = async (simulator: Simulator): Promise<string[]> => {
    const body = { messages: [{ role: "user", content: "Say something." }], vllm_xargs: { sim_mode: "random" } };
    return Promise.all([1, 2, 3, 4, 5, 6].map(async (seed) => textOf(await wholeOf(simulator, { ...body, seed }))));
  };
  const here = await answersOf(await start());
  expect(new Set(here).size).toBeGreaterThan(1);
  expect(await answersOf(await start({ seed: "elsewhere" }))).not.toEqual(here);
  expect(await answersOf(await start())).toEqual(here);
});

test("a shorter answer begins the longer one, and a continued one goes on from anywhere", async () => {
  const simulator = await start();
  const messages = [
    { role: "system", content: "The mill stands by the river. It has two wheels. The miller is called Anna." },
    { role: "user", content: "Tell me about the mill and its wheels." },
  ];
  const full = textOf(await wholeOf(simulator, { messages, model: "millrace-sim" }));
  expect(full.length).toBeGreaterThan(5);
  const short = await wholeOf(simulator, { messages, max_tokens: 2 });
  expect(full.startsWith(textOf(short))).toBe(true);
  expect(short.choices[0]?.finish_reason).toBe("length");
  for (let cut = 0; cut <= full.length; cut++) {
    const said = { role: "assistant", content: full.slice(0, cut) };
    const rest = await wholeOf(simulator, {
      messages: [...messages, said],
      continue_final_message: true,
      add_generation_prompt: false,
    });
    expect(full.slice(0, cut) + textOf(rest)).toBe(full);
  }
});

test("a prefix that was read before is in the usage, not for another salt", async () => {
  const simulator = await start();
  const messages = [{ role: "user", content: "The wheel turns and turns. ".repeat(20) }];
  const cachedOf = async (body: object): Promise<number> =>
    (await wholeOf(simulator, { messages, max_tokens: 1, ...body })).usage.prompt_tokens_details.cached_tokens;
  expect(await cachedOf({})).toBe(0);
  expect(await cachedOf({})).toBeGreaterThan(50);
  expect(await cachedOf({ cache_salt: "tenant" })).toBe(0);
});

test("limits and errors are vLLM's", async () => {
  const simulator = await start({ profile: "3b-l40s", speedup: 1_000, models: ["org/model"] });
  const refused = async (body: object) => {
    const response = await chat(simulator, body);
    const { error } = (await response.json()) as { error: { message: string; type: string; code: number } };
    expect(error.code).toBe(response.status);
    return `${response.status} ${error.type} ${error.message}`;
  };
  expect(await refused({ model: "other" })).toBe("404 NotFoundError The model `other` does not exist.");
  expect(await refused({ messages: [] })).toStartWith("400 BadRequestError");
  expect(await refused({ max_tokens: 0 })).toContain("max_tokens must be at least 1");
  expect(await refused({ max_tokens: 20_000 })).toContain("This model's maximum context length is 16384 tokens.");
  expect(await refused({ messages: [{ role: "user", content: "no ".repeat(17_000) }] })).toContain("Please reduce");
  expect(await refused({ continue_final_message: true })).toContain("Cannot set both");
  expect(await refused({ top_logprobs: 3 })).toContain("`logprobs` must be set to true");
  expect(await refused({ temperature: -1 })).toContain("temperature must be a number at least 0.");
  expect(await refused({ top_p: 0 })).toContain("top_p must be a number above 0 and at most 1.");
  expect(await refused({ n: 128, ignore_eos: true })).toContain("may be forced");
  expect(await refused({ stream_options: {} })).toContain("only be defined when");
  const notJson = await fetch(`${simulator.url}/v1/chat/completions`, { method: "POST", body: "{" });
  expect(notJson.status).toBe(400);
  expect((await fetch(`${simulator.url}/v1/chat/completions`)).status).toBe(405);
  expect((await fetch(`${simulator.url}/v1/elsewhere`)).status).toBe(404);
  expect((await fetch(`${simulator.url}/v1/models/org%2Fmodel`)).status).toBe(200);
  expect((await fetch(`${simulator.url}/v1/models/%E0%A4%A`)).status).toBe(404);
  const named = await wholeOf(simulator, { model: "org/model" });
  expect(named.system_fingerprint).toBe("millrace-sim-3b-l40s");
});

test("every answer has the id of its request: a proxy's own, or a new one", async () => {
  const simulator = await start();
  const given = await chat(simulator, {}, { headers: { "x-request-id": "from-a-proxy" } });
  expect([given.headers.get("x-request-id"), ((await given.json()) as { id: string }).id]).toEqual([
    "from-a-proxy",
    "chatcmpl-from-a-proxy",
  ]);
  const refused = await fetch(`${simulator.url}/v1/nowhere`);
  expect(refused.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  const stream = await chat(simulator, { stream: true });
  expect(await stream.text()).toContain(`"id":"chatcmpl-${stream.headers.get("x-request-id")}"`);
});

test("no tools in a list of them, or a choice without any, is refused as by vLLM", async () => {
  const simulator = await start();
  const refused = async (body: object) => (await chat(simulator, body)).text();
  expect(await refused({ tools: [] })).toContain("must not be an empty array");
  expect(await refused({ tool_choice: "auto" })).toContain("When using `tool_choice`, `tools` must be set.");
  expect((await chat(simulator, { tool_choice: "none" })).status).toBe(200);
});

test("a full queue refuses with 429", async () => {
  const text = await Bun.file(`${import.meta.dir}/profiles/8b-h100.yaml`).text();
  const path = `${process.env.TMPDIR ?? "/tmp"}/millrace-${crypto.randomUUID()}.yaml`;
  await Bun.write(
    path,
    text.replace("max_waiting: 1000", "max_waiting: 0").replace("max_num_seqs: 16", "max_num_seqs: 1"),
  );
  const simulator = await start({ profile: path }).finally(() => Bun.file(path).delete());
  const leaving = new AbortController();
  const first = await chat(simulator, { stream: true, ignore_eos: true }, { signal: leaving.signal });
  expect((await chat(simulator, {})).status).toBe(429);
  const completion = { method: "POST", body: JSON.stringify({ prompt: "The mill" }) };
  expect((await fetch(`${simulator.url}/v1/completions`, completion)).status).toBe(429);
  leaving.abort();
  await first.text().catch(() => null);
});

test("completions: many prompts, echo, token ids, usage on every chunk", async () => {
  const simulator = await start();
  const complete = (body: object) =>
    fetch(`${simulator.url}/v1/completions`, { method: "POST", body: JSON.stringify(body) });
  const texts = async (body: object): Promise<string[]> =>
    ((await (await complete(body)).json()) as { choices: { text: string }[] }).choices.map((choice) => choice.text);
  const [one = "", two = ""] = await texts({ prompt: ["The mill", "The river"], echo: true });
  expect([one.startsWith("The mill"), two.startsWith("The river")]).toEqual([true, true]);
  expect(await texts({ prompt: "The mill", echo: true })).toEqual([one]);
  expect(await texts({ prompt: [[idOf("The"), idOf(" mill")]], echo: true })).toEqual([one]);
  expect(await texts({ prompt: [idOf("The"), idOf(" mill")], echo: true })).toEqual([one]);
  expect((await complete({ prompt: "" })).status).toBe(400);
  expect((await complete({ prompt: "a", suffix: "b" })).status).toBe(400);
  const stream_options = { include_usage: true, continuous_usage_stats: true };
  const chunks = await chunksOf(await complete({ prompt: "The mill", stream: true, max_tokens: 3, stream_options }));
  expect(chunks.map((chunk) => chunk.usage?.completion_tokens)).toEqual([1, 2, 3, 3]);
});

test("logprobs stand beside every token, none above 0", async () => {
  const simulator = await start();
  const body = { logprobs: true, top_logprobs: 3, max_tokens: 5 };
  interface Logprobs {
    readonly content: { token: string; logprob: number; top_logprobs: { token: string; logprob: number }[] }[];
  }
  const whole = (await (await chat(simulator, body)).json()) as { choices: { logprobs: Logprobs }[] };
  const { content } = whole.choices[0]?.logprobs ?? { content: [] };
  expect(content).toHaveLength(5);
  for (const { token, logprob, top_logprobs: top } of content) {
    expect(top[0]).toMatchObject({ token, logprob });
    expect(top).toHaveLength(3);
    expect(top.every((other, index) => other.logprob <= (top[index - 1]?.logprob ?? 0))).toBe(true);
  }
  const chunks = (await chunksOf(await chat(simulator, { ...body, stream: true }))) as unknown as {
    choices: { logprobs: Logprobs | null }[];
  }[];
  const streamed = chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? []);
  expect(streamed).toEqual(content as never);
});

/** Resolves when nothing is in the engine. */
async function idle(simulator: Simulator): Promise<unknown> {
  for (const deadline = performance.now() + 15_000; performance.now() < deadline; ) {
    const load = (await (await fetch(`${simulator.url}/admin/inflight`)).json()) as { inflight: number };
    if (load.inflight === 0) return load;
  }
  return { inflight: simulator.inflight() };
}

test("clients that leave, streaming or not, before or after the first token, are out of the engine", async () => {
  const simulator = await start({ profile: "8b-h100", speedup: 4 });
  const endless = { ignore_eos: true, max_tokens: 20_000 };
  const leave = async (index: number): Promise<void> => {
    const leaving = new AbortController();
    const response = chat(simulator, { ...endless, stream: index % 2 === 0 }, { signal: leaving.signal });
    response.catch(() => null);
    if (index % 4 === 0) await (await response).body?.getReader().read();
    else await fetch(`${simulator.url}/health`);
    leaving.abort();
    await response.then((answer) => answer.text()).catch(() => null);
  };
  await Promise.all(Array.from({ length: 40 }, (_, index) => leave(index)));
  expect(await idle(simulator)).toMatchObject({ inflight: 0, running: 0, waiting: 0, blocksUsed: 0 });
});

test("a client that does not read gets all of it later, in fewer events, and holds no one up", async () => {
  const simulator = await start();
  const messages = [{ role: "user", content: "Go." }];
  const body = {
    stream: true,
    ignore_eos: true,
    max_tokens: 60_000,
    stream_options: { include_usage: true },
    messages,
  };
  const slow = await chat(simulator, body);
  expect(await idle(simulator)).toMatchObject({ inflight: 0 });
  const chunks = await chunksOf(slow);
  expect(chunks.at(-1)?.usage?.completion_tokens).toBe(60_000);
  expect(chunks.length).toBeLessThan(50_000);
  const text = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? "")).join("");
  expect(text).toBe(textOf(await wholeOf(simulator, { ignore_eos: true, max_tokens: 60_000, messages })));
}, 30_000);
