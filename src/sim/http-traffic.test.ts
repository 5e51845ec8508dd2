// What /metrics says of HTTP, against the simulator: names, labels and buckets are those of vLLM's server.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Exposition, readExposition } from "../../tests/exposition.ts";
import { type Simulator, startSimulator } from "./simulator.ts";

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ profile: "8b-h100", speedup: 20 });
});
afterAll(() => simulator.stop());

const post = (path: string, body: object, init: RequestInit = {}): Promise<Response> =>
  fetch(simulator.url + path, { method: "POST", body: JSON.stringify(body), ...init });
const chat = { messages: [{ role: "user", content: "Tell me about the mill." }] };

async function scrape(): Promise<Exposition> {
  const text = await (await fetch(`${simulator.url}/metrics`)).text();
  return readExposition(text.replace(/(^# (HELP|TYPE) )?vllm:iteration_tokens_total.*\n/gm, ""));
}

test("requests are counted by handler, method and status, with their sizes and times", async () => {
  const body = JSON.stringify(chat);
  const whole = await post("/v1/chat/completions", chat);
  const wholeBytes = (await whole.arrayBuffer()).byteLength;
  await (await post("/v1/chat/completions", { ...chat, stream: true })).text();
  await post("/v1/chat/completions", { messages: [] });
  await fetch(`${simulator.url}/v1/models`);
  await fetch(`${simulator.url}/v1/models/millrace-sim`);
  await fetch(`${simulator.url}/nowhere/${"x".repeat(50)}`);
  // Left out, as vLLM leaves them out; the last one because "/load" stands in it.
  for (const path of ["/health", "/metrics", "/version", "/load", "/ping"]) await fetch(simulator.url + path);
  await post("/v1/load_lora_adapter", {});

  const found = await scrape();
  const total = found.families.get("http_requests_total")?.samples ?? new Map();
  expect(Object.fromEntries(total)).toEqual({
    '|handler="/v1/chat/completions",method="POST",status="2xx"': 2,
    '|handler="/v1/chat/completions",method="POST",status="4xx"': 1,
    '|handler="/v1/models",method="GET",status="2xx"': 1,
    '|handler="/v1/models/*",method="GET",status="2xx"': 1,
    '|handler="none",method="GET",status="4xx"': 1,
  });
  const sizes = (name: string) => found.families.get(name)?.samples ?? new Map<string, number>();
  const handler = 'handler="/v1/chat/completions"';
  expect(sizes("http_request_size_bytes").get(`_count|${handler}`)).toBe(3);
  expect(sizes("http_request_size_bytes").get(`_sum|${handler}`)).toBeGreaterThan(2 * body.length);
  // A stream has no length; the refusal has one.
  expect(sizes("http_response_size_bytes").get(`_sum|${handler}`)).toBeGreaterThan(wholeBytes);
  const bounds = (name: string): string[] =>
    [...(found.families.get(name)?.samples.keys() ?? [])].flatMap(
      (key) => /^_bucket.*le="([^"]+)"/.exec(key)?.[1] ?? [],
    );
  expect(bounds("http_request_duration_highr_seconds").join(" ")).toBe(
    "0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 1.5 2.0 2.5 3.0 3.5 4.0 4.5 5.0 7.5 10.0 30.0 60.0 +Inf",
  );
  expect(bounds("http_request_duration_seconds").slice(0, 4)).toEqual(["0.1", "0.5", "1.0", "+Inf"]);
  expect(found.families.get("http_request_duration_highr_seconds")?.samples.get("_count|")).toBe(6);
});

test("a request is under way until the last of its answer, and a client that leaves is counted", async () => {
  const load = async () =>
    ((await (await fetch(`${simulator.url}/load`)).json()) as { server_load: number }).server_load;
  const until = async (count: number): Promise<void> => {
    const deadline = performance.now() + 5_000;
    while ((await load()) !== count && performance.now() < deadline);
    expect(await load()).toBe(count);
  };
  const leaving = new AbortController();
  const endless = { ...chat, ignore_eos: true, max_tokens: 20_000, n: 2 };
  const streamed = await post("/v1/chat/completions", { ...endless, stream: true }, { signal: leaving.signal });
  const whole = post("/v1/chat/completions", endless, { signal: leaving.signal });
  whole.catch(() => null);
  await until(2);
  leaving.abort();
  await streamed.text().catch(() => null);
  await until(0);
  expect((await scrape()).value("vllm:http_requests_client_disconnected_total")).toBe(2);
  // One that the simulator cuts has not left.
  const cut = await post(
    "/v1/chat/completions",
    { ...chat, stream: true },
    { headers: { "x-sim-fault": "after=1; cut" } },
  );
  await cut.text().catch(() => null);
  await until(0);
  expect((await scrape()).value("vllm:http_requests_client_disconnected_total")).toBe(2);
});
