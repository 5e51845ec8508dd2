// Token usage through the whole product, with the simulator as the model server: what it says that it made is what is
// counted, whatever way a call ends; quotas are one over two gateways; a killed gateway loses a second at most.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import OpenAI from "openai";
import { loadConfig } from "../src/config.ts";
import { runKeysCommand } from "../src/keys/run-command.ts";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { type Exposition, readExposition } from "./exposition.ts";
import { type SecondGateway, startSecondGateway } from "./second-gateway.ts";
import { type Stack, startStack, type TaskJson } from "./stack.ts";

setDefaultTimeout(60_000);

let sim: Simulator;
let stack: Stack;
let second: SecondGateway;
beforeAll(async () => {
  sim = await startSimulator({ profile: "8b-h100", speedup: 4 });
  const settings = { MODELS: "chat", LLM_BASE_URL: sim.url };
  stack = await startStack({ settings });
  second = await startSecondGateway(stack, settings);
  for (const url of [stack.url, second.url]) {
    await stack.until("the model is known", 10_000, async () => {
      const response = await fetch(`${url}/v1/models/millrace-sim`, { headers: { "x-api-key": stack.key } });
      return response.status === 200 ? true : null;
    });
  }
});
afterAll(async () => {
  await second?.stop();
  await stack?.stop();
  await sim?.stop();
});

interface Used {
  readonly requests: number;
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly cached_tokens: number;
}
const nothing: Used = { requests: 0, prompt_tokens: 0, completion_tokens: 0, cached_tokens: 0 };

/** A key of its own for a test, so that tests do not count each other's calls. */
async function newKey(tokensPerDay: number | null = null): Promise<{ readonly id: string; readonly key: string }> {
  const config = loadConfig({ DATA_DIR: stack.dataDir });
  const create = {
    name: "create",
    keyName: "test",
    scopes: ["tasks:read", "tasks:write"],
    expiresMs: null,
    ratePerMinute: null,
    tokensPerDay,
  } as const;
  const made = JSON.parse(await runKeysCommand(config, create, false)) as { id: string; key: string };
  for (const url of [stack.url, second.url]) {
    await stack.until("the key is known", 10_000, async () => {
      const response = await fetch(`${url}/v1/usage`, { headers: { "x-api-key": made.key } });
      return response.status === 200 ? true : null;
    });
  }
  return made;
}

const clientOf = (key: string, url = stack.url): OpenAI =>
  new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0 });

async function usageOf(key: string, url = stack.url): Promise<{ used: Used; quota: Record<string, unknown> | null }> {
  const response = await fetch(`${url}/v1/usage`, { headers: { "x-api-key": key } });
  const { data, quota } = (await response.json()) as { data: Used[]; quota: Record<string, unknown> | null };
  const { requests, prompt_tokens, completion_tokens, cached_tokens } = data[0] ?? nothing;
  return { used: { requests, prompt_tokens, completion_tokens, cached_tokens }, quota };
}

/** 200, or the status of the refusal. */
const statusOf = (call: PromiseLike<unknown>): PromiseLike<number> =>
  call.then(
    () => 200,
    (error: unknown) => (error instanceof OpenAI.APIError ? Number(error.status) : 0),
  );

const scrape = async (url: string): Promise<Exposition> => readExposition(await (await fetch(`${url}/metrics`)).text());
/** Calls of this gateway that have ended so. */
const endedAs = async (status: string): Promise<number> =>
  (await scrape(stack.url)).sum("ai_requests_total", `status="${status}"`);
const simulated = async (): Promise<number[]> => {
  const text = await (await fetch(`${sim.url}/metrics`)).text();
  return ["prompt_tokens_total", "generation_tokens_total", "prompt_tokens_cached_total"].map((name) =>
    [...text.matchAll(new RegExp(`^vllm:${name}\\{[^}]*\\} (\\S+)$`, "gm"))].reduce((sum, [, n]) => sum + Number(n), 0),
  );
};
const model = "millrace-sim";
/** Debian's package prometheus has it. */
const promtool = Bun.which("promtool");
const ask = (content: string) => ({ model, messages: [{ role: "user" as const, content }] });

test("after a hundred calls of all kinds, key, metrics and model server say the same", async () => {
  const { key } = await newKey();
  const client = clientOf(key);
  const before = await simulated();
  const metricsBefore = await scrape(stack.url);
  const calls = Array.from({ length: 100 }, async (_, i) => {
    const content = `Question ${i % 10} about the mill, the race and the wheel that it turns, please.`;
    if (i % 4 === 0) return client.chat.completions.create(ask(content));
    if (i % 4 === 1) return client.completions.create({ model, prompt: content, max_tokens: 5 + (i % 7) });
    if (i % 20 === 2) return client.chat.completions.create({ ...ask(content), max_tokens: 100_000 }).catch(() => null);
    const stream = await client.chat.completions.create({ ...ask(content), stream: true });
    for await (const _ of stream);
    return null;
  });
  await Promise.all(calls);
  const now = await simulated();
  const [prompt, completion, cached] = now.map((value, index) => value - (before[index] ?? 0)) as [
    number,
    number,
    number,
  ];
  const { used, quota } = await usageOf(key);
  expect(used).toEqual({
    requests: 100,
    prompt_tokens: prompt,
    completion_tokens: completion,
    cached_tokens: cached,
  });
  expect(quota).toBeNull();
  const metrics = await scrape(stack.url);
  const grown = (name: string, part = ""): number => metrics.sum(name, part) - metricsBefore.sum(name, part);
  expect([
    grown("ai_tokens_total", 'type="prompt"'),
    grown("ai_tokens_total", 'type="completion"'),
    grown("ai_tokens_total", 'type="cached"'),
  ]).toEqual([prompt, completion, cached]);
  expect(grown("ai_requests_total", 'status="success"')).toBe(95);
  expect(grown("ai_requests_total", 'status="refused"')).toBe(5);
  expect(metrics.sum("millrace_live_calls")).toBe(0);
  const samples = (name: string, sample: string, labels = "") =>
    metrics.families.get(name)?.samples.get(`${sample}|model="${model}"${labels}`) ?? Number.NaN;
  for (const name of ["ai_time_to_first_token_seconds", "ai_inter_token_latency_seconds"]) {
    expect([name, samples(name, "_count")]).toEqual([name, 45]);
  }
  // At the speed of the simulator: 12 ms alone, twice that when full, four times as fast.
  const gapS = samples("ai_inter_token_latency_seconds", "_sum") / 45;
  expect(gapS).toBeGreaterThan(0.0025);
  expect(gapS).toBeLessThan(0.05);
  const chats = ',endpoint="chat/completions"';
  expect(samples("ai_request_duration_seconds", "_count", chats)).toBe(70);
  expect(samples("ai_request_duration_seconds", "_sum", chats) / 70).toBeLessThan(5);
  if (promtool) {
    const text = await (await fetch(`${stack.url}/metrics`)).blob();
    const child = Bun.spawn([promtool, "check", "metrics"], { stdin: text, stdout: "pipe", stderr: "pipe" });
    expect(await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])).toEqual(["", "", 0]);
  }
});

test("a stream that its client leaves is charged for the tokens that were made until then", async () => {
  const { key } = await newKey(100_000);
  const before = await simulated();
  const long = { max_tokens: 400, ...{ ignore_eos: true } };
  const { data: stream, response } = await clientOf(key)
    .chat.completions.create({ ...ask("Tell me a long story of the mill."), ...long, stream: true })
    .withResponse();
  const live = async (): Promise<number> => (await scrape(stack.url)).sum("millrace_live_calls");
  expect(await live()).toBe(1);
  const reserved = 100_000 - Number(response.headers.get("x-ratelimit-remaining-tokens"));
  expect(reserved).toBeGreaterThan(400);
  let chunks = 0;
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content && ++chunks === 20) break; // closes the socket
  }
  const used = await stack.until("the call is counted", 10_000, async () => {
    const { used } = await usageOf(key);
    return used.requests === 1 ? used : null;
  });
  await stack.until("the server has stopped", 10_000, async () => (sim.inflight() === 0 ? true : null));
  expect(await live()).toBe(0);
  expect(await endedAs("cancelled")).toBe(1);
  const made = ((await simulated())[1] ?? 0) - (before[1] ?? 0);
  expect(used.completion_tokens).toBeGreaterThanOrEqual(20);
  expect(used.completion_tokens).toBeLessThanOrEqual(made);
  expect(made - used.completion_tokens).toBeLessThan(40); // on their way when the client left
  expect(used.prompt_tokens).toBeGreaterThan(0);
});

test("a call that fails before any token costs nothing, and one that breaks off what came", async () => {
  const { key } = await newKey();
  const client = clientOf(key);
  const failing = (fault: string) => ({ ...ask("What turns?"), ...{ vllm_xargs: { sim_fault: fault } } });
  await expect(statusOf(client.chat.completions.create(failing("status=500")))).resolves.toBe(502);
  expect((await usageOf(key)).used).toEqual(nothing);
  const stream = await client.chat.completions.create({ ...failing("after=5; cut"), stream: true });
  const reading = (async () => {
    for await (const _ of stream);
  })();
  await expect(reading).rejects.toThrow();
  const { used } = await usageOf(key);
  expect([used.requests, used.completion_tokens]).toEqual([1, 5]);
  expect(await endedAs("upstream_failed")).toBe(2);
});

test("a quota is one over both gateways: what is left is told, and used up it is refused until midnight", async () => {
  const { id, key } = await newKey(600);
  const urls = [stack.url, second.url];
  const statuses: number[] = [];
  const lefts: number[] = [];
  for (let i = 0; i < 40 && statuses.at(-1) !== 429; i++) {
    const { response } = await clientOf(key, urls[i % 2])
      .chat.completions.create({ ...ask("Which wheel?"), max_tokens: 10 })
      .withResponse()
      .catch((error: unknown) => ({ response: error instanceof OpenAI.APIError ? error : null }));
    statuses.push(response?.status ?? 0);
    const left = response?.headers?.get("x-ratelimit-remaining-tokens");
    if (left) lefts.push(Number(left));
  }
  expect(statuses.at(-1)).toBe(429);
  const { used, quota } = await stack.until("all calls are counted", 5_000, async () => {
    const usage = await usageOf(key);
    return usage.used.requests === statuses.length - 1 ? usage : null;
  });
  const total = used.prompt_tokens + used.completion_tokens;
  // Each gateway may go beyond the limit by one call, and be refused what the other holds: a sixtieth.
  expect(total).toBeGreaterThanOrEqual(600 - 10 - 40);
  expect(total).toBeLessThanOrEqual(600 + 2 * 40);
  expect(lefts.length).toBe(statuses.length - 1);
  expect(Math.max(...lefts)).toBeLessThan(600);
  expect(quota).toMatchObject({ limit: 600, used: total, remaining: Math.max(0, 600 - total) });

  const body = JSON.stringify(ask("Which wheel?"));
  const headers = { "x-api-key": key, "content-type": "application/json" };
  for (const url of urls) {
    const refused = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body });
    expect([refused.status, refused.headers.get("x-should-retry")]).toEqual([429, "false"]);
    const untilMidnight = 86_400 - ((Date.now() / 1_000) % 86_400);
    expect(Math.abs(Number(refused.headers.get("retry-after")) - untilMidnight)).toBeLessThan(3);
    expect(await refused.json()).toMatchObject({ error: { code: "insufficient_quota", type: "insufficient_quota" } });
  }
  await statusOf(clientOf(key).chat.completions.create({ ...ask("Which wheel?"), model: "none" }));
  const counted = (await scrape(stack.url)).families.get("ai_requests_total")?.samples;
  const refusals = [...(counted ?? [])].filter(([labels]) => labels.includes('status="insufficient_quota"'));
  // And none of a model that does not exist.
  const wasFirst = statuses.length % 2 === 1;
  const series = expect.stringContaining(`model="${model}",endpoint="chat/completions"`);
  expect(refusals).toEqual([[series, wasFirst ? 2 : 1]]);
  const all = await stack.call("GET", "/v1/usage?key=*&group_by=key,provider");
  const { data } = (await all.json()) as { data: readonly Record<string, unknown>[] };
  expect(data.find(({ key_id }) => key_id === id)).toMatchObject({ requests: used.requests });
});

test("tasks are charged to their owner, and refused at the model when the day is used up", async () => {
  const { key } = await newKey(60);
  const submit = async (): Promise<TaskJson> => {
    const input = { messages: ask("Which wheel?").messages, max_tokens: 50 };
    const task = await stack.submit({ model: "chat", input, max_attempts: 1 }, { "x-api-key": key });
    return stack.until("the task has ended", 20_000, async () => {
      const headers = { "x-api-key": key, prefer: "wait=10" };
      const read = (await (
        await stack.call("GET", `/v1/tasks/${task.task_id}`, undefined, headers)
      ).json()) as TaskJson;
      return read.finished_at ? read : null;
    });
  };
  const task = await submit();
  expect(task.status).toBe("SUCCESS");
  const { usage } = task.result as { usage: { prompt_tokens: number; completion_tokens: number } };
  const counted = await stack.until("the task is counted", 5_000, async () => {
    const found = await usageOf(key);
    return found.used.requests === 1 ? found : null;
  });
  expect(counted.used).toMatchObject({
    prompt_tokens: usage.prompt_tokens,
    completion_tokens: usage.completion_tokens,
  });
  const { metrics } = await stack.logged({ message: "actor is ready" });
  const actor = readExposition(await (await fetch(String(metrics))).text());
  expect(actor.sum("ai_tokens_total", 'type="completion"')).toBe(usage.completion_tokens);
  const refused = await stack.until("a task is refused", 20_000, async () => {
    const next = await submit();
    return next.status === "SUCCESS" ? null : next;
  });
  expect(refused.error).toMatchObject({ code: "insufficient_quota", retryable: false });
  expect(await statusOf(clientOf(key).chat.completions.create(ask("And now?")))).toBe(429);
});

test("a gateway that is killed loses a second of what it counted at most", async () => {
  const { key } = await newKey();
  const client = clientOf(key, second.url);
  for (let i = 0; i < 5; i++) await client.chat.completions.create(ask(`What is ${i}?`));
  await stack.until("the other gateway has read it", 3_000, async () => {
    const { used } = await usageOf(key);
    return used.requests === 5 ? true : null;
  });
  await client.chat.completions.create(ask("And now?"));
  await second.stop("SIGKILL");
  const { used } = await usageOf(key);
  expect([5, 6]).toContain(used.requests);
});
