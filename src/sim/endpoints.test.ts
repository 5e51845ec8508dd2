// The paths beside OpenAI's: tokens, adapters, metrics; and that what is no text takes its time in the engine too.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readExposition } from "../../tests/exposition.ts";
import { type Simulator, startSimulator } from "./simulator.ts";

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator();
});
afterAll(() => simulator.stop());

const post = (path: string, body: object, init: RequestInit = {}, { url }: Simulator = simulator): Promise<Response> =>
  fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...init,
  });

test("a text is its tokens, and they are the text", async () => {
  const prompt = "The mill, 水車 🌊 at 10:30.";
  const tokenized = await post("/tokenize", { prompt, return_token_strs: true });
  const { count, tokens, token_strs, max_model_len } = (await tokenized.json()) as {
    count: number;
    tokens: number[];
    token_strs: string[];
    max_model_len: number;
  };
  expect([tokens.length, token_strs.join(""), max_model_len]).toEqual([count, prompt, 131_072]);
  expect(await (await post("/detokenize", { tokens })).json()).toEqual({ prompt });
  const messages = [{ role: "user", content: "Hello" }];
  const chat = (await (await post("/tokenize", { messages })).json()) as { count: number };
  const answer = await post("/v1/chat/completions", { messages, max_tokens: 1 });
  expect(((await answer.json()) as { usage: { prompt_tokens: number } }).usage.prompt_tokens).toBe(chat.count);
  for (const body of [{}, { prompt: 1 }, { messages: [1] }]) expect((await post("/tokenize", body)).status).toBe(400);
  for (const body of [{}, { tokens: ["a"] }]) expect((await post("/detokenize", body)).status).toBe(400);
});

test("an adapter is a model while it is loaded", async () => {
  const adapter = { lora_name: "tuned", lora_path: "/weights/tuned" };
  const ask = async () =>
    (await post("/v1/chat/completions", { model: "tuned", messages: [{ role: "user", content: "Hi" }] })).status;
  expect(await ask()).toBe(404);
  const loaded = await post("/v1/load_lora_adapter", adapter);
  expect([loaded.status, await loaded.text()]).toEqual([200, "Success: LoRA adapter 'tuned' added successfully."]);
  const { data } = (await (await fetch(`${simulator.url}/v1/models`)).json()) as { data: object[] };
  expect(data).toMatchObject([{ id: "millrace-sim" }, { id: "tuned", parent: "millrace-sim" }]);
  expect([await ask(), (await post("/v1/load_lora_adapter", adapter)).status]).toEqual([200, 400]);
  expect((await post("/v1/unload_lora_adapter", { lora_name: "tuned" })).status).toBe(200);
  expect(await ask()).toBe(404);
  for (const name of ["tuned", "millrace-sim"]) {
    expect((await post("/v1/unload_lora_adapter", { lora_name: name })).status).toBe(404);
  }
  expect((await post("/v1/load_lora_adapter", { lora_name: "x" })).status).toBe(400);
});

test("guided_* is refused, and ignored where it is to be vLLM to the letter", async () => {
  const messages = [{ role: "user", content: "Tell me about the mill." }];
  const refused = await post("/v1/chat/completions", { messages, guided_choice: ["yes"] });
  expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining("use structured_outputs")]);
  expect((await post("/v1/completions", { prompt: "a", guided_json: {} })).status).toBe(400);
  const strict = await startSimulator({ strictCompat: true });
  const contentOf = async (body: object): Promise<string | undefined> => {
    const answer = (await (await post("/v1/chat/completions", { messages, ...body }, {}, strict)).json()) as {
      choices: { message: { content: string } }[];
    };
    return answer.choices[0]?.message.content;
  };
  expect(await contentOf({ structured_outputs: { choice: ["yes"] } })).toBe("yes");
  expect(await contentOf({ guided_choice: ["yes"] })).toBe(await contentOf({}));
  await strict.stop();
});

test("embeddings and pictures wait in the engine, and leave it with their client", async () => {
  const slow = await startSimulator({ profile: "70b-h100-tp8", speedup: 4 });
  const begun = performance.now();
  expect((await post("/v1/images/generations", { prompt: "a mill", size: "64x64" }, {}, slow)).status).toBe(200);
  expect(performance.now() - begun).toBeGreaterThan(100); // 28 steps, of 25 ms over 4 and more
  for (const [path, body] of [
    ["/v1/embeddings", { input: Array.from({ length: 8 }, (_, at) => `${at} ${"word ".repeat(200)}`) }],
    ["/v1/images/generations", { prompt: "a mill", n: 3, size: "64x64" }],
    ["/v1/audio/speech", { input: "a long text ".repeat(50), voice: "alloy" }],
  ] as const) {
    const leaving = new AbortController();
    const answering = post(path, body, { signal: leaving.signal }, slow);
    const inflight = async (count: (now: number) => boolean): Promise<void> => {
      const deadline = performance.now() + 5_000;
      while (!count(slow.inflight()) && performance.now() < deadline) await fetch(`${slow.url}/health`);
      expect([path, count(slow.inflight())]).toEqual([path, true]);
    };
    await inflight((now) => now > 0);
    leaving.abort();
    await answering.catch(() => null);
    await inflight((now) => now === 0);
  }
  const metrics = readExposition(
    (await (await fetch(`${slow.url}/metrics`)).text()).replace(
      /(^# (HELP|TYPE) )?vllm:iteration_tokens_total.*\n/gm,
      "",
    ),
  );
  expect(metrics.value("vllm:http_requests_client_disconnected_total")).toBe(3);
  const ended = (reason: string) => metrics.sum("vllm:request_success_total", `finished_reason="${reason}"`);
  expect([ended("stop"), ended("abort")]).toEqual([1, 8 + 3 + 1]);
  await slow.stop();
});

/** Of promtool's complaints those that vLLM's own names earn. */
const vllmsOwn = /metric names should not contain ':'$|^vllm:iteration_tokens_total non-counter metrics/;
const promtool = Bun.which("promtool");

test("/metrics has vLLM's families, filled by what happened", async () => {
  const own = await startSimulator({ models: ["a-model"] });
  const messages = [{ role: "user", content: `Tell me more of it. ${"word ".repeat(100)}` }];
  const ask = (body: object) => post("/v1/chat/completions", { messages, ...body }, {}, own).then((r) => r.text());
  for (const max_tokens of [5, 10]) await ask({ max_tokens, ignore_eos: true });
  await post("/v1/chat/completions", { messages, n: 2, vllm_xargs: { sim_fault: "status=503" } }, {}, own);
  const response = await fetch(`${own.url}/metrics`);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const text = await response.text();
  // A histogram of that name is vLLM's; the strict reader takes none.
  const found = readExposition(text.replace(/(^# (HELP|TYPE) )?vllm:iteration_tokens_total.*\n/gm, ""));
  const labels = 'engine="0",model_name="a-model"';
  const values = (names: string[]) => names.map((name) => found.value(`vllm:${name}`, labels));
  expect(values(["num_requests_running", "num_requests_waiting", "generation_tokens_total"])).toEqual([0, 0, 15]);
  const [queries = 0, hits = 0, prompt = 0] = values([
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "prompt_tokens_total",
  ]);
  expect([queries, prompt]).toEqual([prompt, 2 * (prompt / 2)]);
  expect(hits).toBeGreaterThan(prompt / 4);
  expect(hits % 16).toBe(0);
  const success = found.value("vllm:request_success_total", `engine="0",finished_reason="length",model_name="a-model"`);
  expect([success, found.value("sim_faults_injected_total", 'fault="status"')]).toEqual([2, 1]);
  const bounds = (family: string): string[] =>
    [...text.matchAll(new RegExp(`^vllm:${family}_bucket\\{engine="0",le="([^"]+)"`, "gm"))].map(
      (match) => match[1] ?? "",
    );
  expect(bounds("time_to_first_token_seconds").join(" ")).toBe(
    "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 160.0 640.0 2560.0 +Inf",
  );
  expect(bounds("request_prompt_tokens").slice(-4)).toEqual(["20000.0", "50000.0", "100000.0", "+Inf"]);
  expect(found.families.get("vllm:inter_token_latency_seconds")?.samples.get(`_count|${labels}`)).toBe(13);
  expect(found.families.get("vllm:request_params_n")?.samples.get(`_count|${labels}`)).toBe(3);
  const ns = found.families.get("vllm:request_params_n")?.samples;
  expect(["1.0", "2.0"].map((le) => ns?.get(`_bucket|engine="0",le="${le}",model_name="a-model"`))).toEqual([2, 3]);
  for (const family of vllmFamilies.split(" ")) expect(text).toContain(`\n# TYPE vllm:${family} `);
  await own.stop();
});

/** What dashboards and routers of vLLM read. */
const vllmFamilies =
  "num_requests_running num_requests_waiting num_requests_waiting_by_reason kv_cache_usage_perc engine_sleep_state " +
  "cache_config_info prompt_tokens_total prompt_tokens_cached_total prompt_tokens_by_source_total " +
  "generation_tokens_total num_preemptions_total request_success_total prefix_cache_queries_total " +
  "prefix_cache_hits_total external_prefix_cache_queries_total external_prefix_cache_hits_total " +
  "mm_cache_queries_total mm_cache_hits_total inter_token_latency_seconds request_time_per_output_token_seconds " +
  "time_to_first_token_seconds e2e_request_latency_seconds request_queue_time_seconds request_inference_time_seconds " +
  "request_prefill_time_seconds request_decode_time_seconds iteration_tokens_total request_prompt_tokens " +
  "request_generation_tokens request_max_num_generation_tokens request_params_n request_params_max_tokens " +
  "http_requests_client_disconnected_total";

test.skipIf(promtool === null)("promtool reads /metrics, and finds fault with vLLM's names alone", async () => {
  const text = await (await fetch(`${simulator.url}/metrics`)).text();
  const child = Bun.spawn([promtool ?? "", "check", "metrics"], {
    stdin: new Blob([text]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [said, complained, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  const complaints = (said + complained).split("\n").filter(Boolean);
  expect(complaints.filter((line) => !vllmsOwn.test(line))).toEqual([]);
  expect(code).toBe(3); // 1 is a text that it cannot read
});
