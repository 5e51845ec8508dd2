// Fields that cut an answer or tell of its prompt, as a client sees them: stop tokens, words that must not be said, log
// probabilities of the prompt, and a prompt that is echoed with them.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Simulator, startSimulator } from "./simulator.ts";
import { idOf, tokenize } from "./tokenizer.ts";

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator();
});
afterAll(() => simulator.stop());

const post = async (path: string, body: object): Promise<Response> =>
  fetch(simulator.url + path, { method: "POST", body: JSON.stringify(body) });

interface PromptLogprob {
  readonly logprob: number;
  readonly rank: number;
  readonly decoded_token: string;
}
interface Choice {
  readonly text: string;
  readonly message: { content: string };
  readonly finish_reason: string | null;
  readonly stop_reason: string | number | null;
  readonly logprobs: {
    readonly text_offset: number[];
    readonly tokens: string[];
    readonly token_logprobs: (number | null)[];
    readonly top_logprobs: (Record<string, number> | null)[];
  } | null;
  readonly prompt_logprobs?: (Record<string, PromptLogprob> | null)[];
}
interface Answer {
  readonly choices: readonly Choice[];
  readonly usage: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
  };
  readonly prompt_logprobs?: (Record<string, PromptLogprob> | null)[];
}

const messages = [
  { role: "system", content: "The mill stands by the river. The miller of the mill is called Anna." },
  { role: "user", content: "Tell me about the mill." },
];
const ask = async (body: object): Promise<Answer> =>
  (await (await post("/v1/chat/completions", { messages, ...body })).json()) as Answer;
const complete = async (body: object): Promise<Answer> =>
  (await (await post("/v1/completions", { prompt: "The mill by the river", ...body })).json()) as Answer;
const first = ({ choices: [choice] }: Answer): Choice => {
  if (!choice) throw new Error("no choice");
  return choice;
};
async function refused(path: string, body: object): Promise<string> {
  const response = await post(path, { messages, prompt: "a b", ...body });
  const { error } = (await response.json()) as { error: { message: string } };
  return `${response.status} ${error.message}`;
}

test("a stop token ends the answer, is counted, and is its stop_reason", async () => {
  const whole = first(await ask({})).message.content;
  const pieces = tokenize(whole);
  const at = 4;
  const id = idOf(pieces[at] ?? "");
  const before = pieces.slice(0, pieces.indexOf(pieces[at] ?? "")).join("");
  const cut = await ask({ stop_token_ids: [7, id] });
  expect(first(cut)).toMatchObject({ finish_reason: "stop", stop_reason: id, message: { content: before } });
  expect(cut.usage.completion_tokens).toBe(tokenize(before).length + 1);
  const told = await ask({ stop_token_ids: [id], include_stop_str_in_output: true });
  expect(first(told).message.content).toBe(before + pieces[at]);
  expect(first(await ask({ stop_token_ids: [7] })).message.content).toBe(whole);
  expect(first(await ask({ stop_token_ids: [id], min_tokens: pieces.length })).stop_reason).toBeNull();
  const sooner = await ask({ stop_token_ids: [id], stop: pieces[1] });
  expect(first(sooner).stop_reason).toBe(pieces[1] ?? "");
  expect(await refused("/v1/chat/completions", { stop_token_ids: ["a"] })).toStartWith("400 stop_token_ids must be");
});

test("a stop token ends a stream, where the text was held back too", async () => {
  const stop_token_ids = [idOf(tokenize(first(await ask({})).message.content)[3] ?? "")];
  const text = await (
    await post("/v1/chat/completions", { messages, stream: true, stop_token_ids, stop: "zz" })
  ).text();
  const chunks = [...text.matchAll(/^data: (\{.*)$/gm)].map((match) => JSON.parse(match[1] ?? ""));
  expect(chunks.at(-1).choices[0]).toMatchObject({ finish_reason: "stop", stop_reason: stop_token_ids[0] });
  const said = chunks.map(({ choices }) => choices[0].delta.content ?? "").join("");
  expect(said).toBe(first(await ask({ stop_token_ids })).message.content);
});

test("bad words are not said; a constraint is obeyed all the same", async () => {
  const plain = first(await ask({ n: 1 })).message.content;
  expect(plain).toContain("mill");
  const said = first(await ask({ bad_words: ["mill", "river"] })).message.content;
  expect([said.includes("mill"), said.includes("river"), said.length > 0]).toEqual([false, false, true]);
  expect(first(await ask({ bad_words: ["yes"], structured_outputs: { choice: ["yes"] } })).message.content).toBe("yes");
  expect(await refused("/v1/chat/completions", { bad_words: [""] })).toStartWith("400 bad_words must be");
});

test("log probabilities of a conversation: by token id, the prompt's own first, nothing for the first", async () => {
  const answer = await ask({ prompt_logprobs: 3, max_tokens: 1 });
  const list = answer.prompt_logprobs ?? [];
  const { tokens } = (await (await post("/tokenize", { messages })).json()) as { tokens: number[] };
  expect(list).toHaveLength(answer.usage.prompt_tokens);
  expect(tokens).toHaveLength(list.length);
  expect(list[0]).toBeNull();
  const sizes = new Set<number>();
  for (const [at, entry] of list.entries()) {
    if (entry === null) continue;
    sizes.add(Object.keys(entry).length);
    const own = entry[String(tokens[at])];
    expect(own).toBeDefined();
    const ranks = Object.values(entry).map(({ rank }) => rank);
    expect(new Set(ranks).size).toBe(ranks.length);
    for (const { logprob, rank } of Object.values(entry)) {
      expect(logprob).toBeLessThanOrEqual(0);
      for (const other of Object.values(entry)) if (rank < other.rank) expect(logprob).toBeGreaterThan(other.logprob);
    }
  }
  expect([...sizes].sort()).toEqual([3, 4]); // as vLLM: the token itself beside those that were likelier
  expect(list.map((entry, at) => entry?.[String(tokens[at])]?.decoded_token ?? "").join("")).toContain(
    " stands by the",
  );
  expect((await ask({ prompt_logprobs: 3, max_tokens: 1 })).usage.prompt_tokens_details.cached_tokens).toBe(0);
  const own = (await ask({ prompt_logprobs: 0 })).prompt_logprobs ?? [];
  expect(own.slice(1).every((entry) => Object.keys(entry ?? {}).length === 1)).toBe(true);
  expect("prompt_logprobs" in (await ask({}))).toBe(false);
});

test("log probabilities of prompts are refused in vLLM's words", async () => {
  for (const path of ["/v1/chat/completions", "/v1/completions"]) {
    expect(await refused(path, { prompt_logprobs: 1, stream: true })).toContain("not available when `stream=True`");
    expect(await refused(path, { prompt_logprobs: -2 })).toContain("must be a positive value or -1");
    expect(await refused(path, { prompt_logprobs: 21 })).toContain("prompt logprobs of 21, which is greater than max");
    expect(await refused(path, { prompt_logprobs: -1 })).toContain("greater than max allowed: 20");
  }
  expect(await refused("/v1/completions", { prompt: "a ".repeat(20_000), prompt_logprobs: 20 })).toContain("at most");
  const long = { prompt: "a ".repeat(3_000), n: 100, max_tokens: 1, echo: true };
  expect((await post("/v1/completions", long)).status).toBe(200);
  expect(await refused("/v1/completions", { ...long, logprobs: 20, prompt_logprobs: 0 })).toContain("at most");
  expect((await post("/v1/completions", { prompt: "a", prompt_logprobs: 0, stream: true })).status).toBe(200);
});

test("an echo with log probabilities: the prompt's tokens before the answer's, the first without any", async () => {
  const plain = await complete({ max_tokens: 3, logprobs: 2 });
  const answer = await complete({ max_tokens: 3, logprobs: 2, echo: true });
  const { text, logprobs, prompt_logprobs } = first(answer);
  const { tokens = [], token_logprobs = [], top_logprobs = [], text_offset = [] } = logprobs ?? {};
  expect(text).toBe(`The mill by the river${first(plain).text}`);
  expect(tokens).toEqual([...tokenize("The mill by the river"), ...(first(plain).logprobs?.tokens ?? [])]);
  expect([token_logprobs[0], top_logprobs[0]]).toEqual([null, null]);
  expect(token_logprobs.slice(1).every((value) => value !== null && value <= 0)).toBe(true);
  for (const [at, token] of tokens.entries()) {
    expect(text.slice(text_offset[at]).startsWith(token)).toBe(true);
    if (at > 0) expect(top_logprobs[at]?.[token]).toBe(token_logprobs[at] ?? 1);
  }
  expect(prompt_logprobs).toHaveLength(answer.usage.prompt_tokens);
  expect(Object.values(prompt_logprobs?.[1] ?? {})[0]?.logprob).toBe(token_logprobs[1] ?? 1);
  const stream = await post("/v1/completions", {
    prompt: "The mill by the river",
    max_tokens: 3,
    logprobs: 2,
    echo: true,
    stream: true,
  });
  const chunks = [...(await stream.text()).matchAll(/^data: (\{.*)$/gm)].map((match) => JSON.parse(match[1] ?? ""));
  expect(chunks.flatMap(({ choices }) => choices[0].logprobs.tokens)).toEqual(tokens);
  expect(chunks.flatMap(({ choices }) => choices[0].logprobs.text_offset)).toEqual(text_offset);
});

test("max_tokens 0 with an echo is the prompt alone, for each of them", async () => {
  const prompt = ["The mill", "A river"];
  const answer = await complete({ prompt, max_tokens: 0, logprobs: 1, echo: true });
  expect(answer.choices.map(({ text, finish_reason }) => [text, finish_reason])).toEqual(
    prompt.map((text) => [text, "length"]),
  );
  expect(answer.choices.map(({ logprobs }) => logprobs?.tokens)).toEqual(prompt.map((text) => tokenize(text)));
  expect(await refused("/v1/completions", { max_tokens: 0 })).toContain("max_tokens must be at least 1, got 0.");
  const stream = await post("/v1/completions", { prompt: "The mill", max_tokens: 0, echo: true, stream: true });
  const chunks = [...(await stream.text()).matchAll(/^data: (\{.*)$/gm)].map((match) => JSON.parse(match[1] ?? ""));
  expect(chunks.map(({ choices }) => choices[0].text)).toEqual(["The mill"]);
});
