// The simulator as its clients meet it: over real sockets, in this process.
import { afterAll, expect, test } from "bun:test";
import { type Simulator, type SimulatorOptions, startSimulator } from "./simulator.ts";

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
  const events = (await response.text()).split("\n\n").filter(Boolean);
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

test("a client that leaves is out of the engine", async () => {
  const simulator = await start({ profile: "8b-h100", speedup: 4 });
  const leaving = new AbortController();
  const response = await chat(
    simulator,
    { stream: true, ignore_eos: true, max_tokens: 10_000 },
    { signal: leaving.signal },
  );
  const reader = response.body?.getReader();
  await reader?.read();
  expect(simulator.inflight()).toBe(1);
  leaving.abort();
  await reader?.read().catch(() => null);
  const deadline = performance.now() + 5_000;
  while (simulator.inflight() > 0 && performance.now() < deadline) {
    await fetch(`${simulator.url}/admin/inflight`).then((answer) => answer.text());
  }
  expect(simulator.inflight()).toBe(0);
});
