// Sleep, adapters, a full queue and a replay, over HTTP: what waits, what is refused, and what /metrics says meanwhile.
import { afterEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readExposition } from "../../tests/exposition.ts";
import { type Simulator, startSimulator } from "./simulator.ts";

let simulator: Simulator;
afterEach(() => simulator.stop());

const post = (path: string, body: object = {}): Promise<Response> =>
  fetch(simulator.url + path, { method: "POST", body: JSON.stringify(body) });
const question = { messages: [{ role: "user", content: "Tell me about the mill by the river." }] };
const endless = { ...question, ignore_eos: true, max_tokens: 20_000 };
const chat = (body: object = question): Promise<Response> => post("/v1/chat/completions", body);

async function metrics() {
  const text = await (await fetch(`${simulator.url}/metrics`)).text();
  const found = readExposition(text.replace(/(^# (HELP|TYPE) )?vllm:iteration_tokens_total.*\n/gm, ""));
  const labels = 'engine="0",model_name="millrace-sim"';
  const by = (name: string, label: string) => (value: string) => found.value(name, `${labels},${label}="${value}"`);
  return {
    found,
    labels,
    waiting: by("vllm:num_requests_waiting_by_reason", "reason"),
    state: by("vllm:engine_sleep_state", "sleep_state"),
  };
}

/** Resolves when the engine has so many requests. */
async function until(wanted: { readonly running?: number; readonly waiting?: number }): Promise<void> {
  const deadline = performance.now() + 5_000;
  for (;;) {
    const load = (await (await fetch(`${simulator.url}/admin/inflight`)).json()) as Record<string, number>;
    if (Object.entries(wanted).every(([name, count]) => load[name] === count)) return;
    if (performance.now() > deadline) expect(load).toMatchObject(wanted);
  }
}

test("level 0 lets requests wait; deeper sleep refuses them, or lets them wait where it is told to", async () => {
  simulator = await startSimulator();
  for (const [path, change] of [
    ["/sleep?level=0", {}],
    ["/sleep?level=2", { asleep: "queue" }],
  ] as const) {
    await post("/admin/config", change);
    expect((await post(path)).status).toBe(200);
    const answering = chat();
    await until({ running: 0, waiting: 1 });
    expect((await metrics()).waiting("capacity")).toBe(1);
    await post("/wake_up");
    expect((await answering).status).toBe(200);
  }
  await post("/admin/config", { asleep: "reject" });
  await post("/sleep");
  expect([(await chat()).status, (await metrics()).state("weights_offloaded")]).toEqual([503, 1]);
  await post("/wake_up?tags=weights");
  expect([(await chat()).status, (await metrics()).state("awake")]).toEqual([503, 0]);
  expect((await metrics()).state("weights_offloaded")).toBe(0);
  await post("/wake_up?tags=kv_cache");
  expect([(await chat()).status, (await metrics()).state("awake")]).toEqual([200, 1]);
  for (const wrong of ["level=3", "tags=buffers", "mode=gently"]) {
    expect([wrong, (await post(`/sleep?${wrong}`)).status]).toEqual([wrong, 400]);
  }
  for (const wrong of [{ asleep: "snore" }, { profile: { replay: "/etc/hostname" } }]) {
    expect((await post("/admin/config", wrong)).status).toBe(400);
  }
});

test("what runs is ended with the reason abort, or goes on when it wakes up", async () => {
  simulator = await startSimulator({ profile: "8b-h100", speedup: 4 });
  const streamed = await chat({ ...endless, stream: true });
  const whole = chat({ ...endless, n: 2 });
  const reader = streamed.body?.getReader();
  await reader?.read();
  await until({ running: 3 });
  await post("/sleep");
  let text = "";
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
    text += Buffer.from(piece.value).toString();
  }
  expect(text).toMatch(/"delta":\{"content":""\},"logprobs":null,"finish_reason":"abort".*\n\ndata: \[DONE\]\n\n$/);
  const { choices } = (await (await whole).json()) as { choices: { finish_reason: string }[] };
  expect(choices.map((choice) => choice.finish_reason)).toEqual(["abort", "abort"]);
  await until({ running: 0, waiting: 0 });
  await post("/wake_up");

  const kept = chat({ ...question, ignore_eos: true, max_tokens: 30 });
  await until({ running: 1 });
  await post("/sleep?tags=kv_cache&mode=keep");
  // Its memory is gone with the cache.
  await until({ running: 0, waiting: 1 });
  await post("/wake_up");
  expect(await (await kept).json()).toMatchObject({ choices: [{ finish_reason: "length" }] });
  expect((await metrics()).found.value("vllm:num_preemptions_total", (await metrics()).labels)).toBe(1);
});

test("what is no text breaks off where it is given up", async () => {
  simulator = await startSimulator({ profile: "70b-h100-tp8" });
  const speech = { input: "a long text ".repeat(50), voice: "alloy" };
  const [picture, events, sound] = await Promise.all([
    post("/v1/images/generations", { prompt: "a mill", size: "64x64", stream: true }),
    post("/v1/audio/speech", { ...speech, stream_format: "sse" }),
    post("/v1/audio/speech", speech),
  ]);
  const reader = sound.body?.getReader();
  await reader?.read();
  await post("/admin/config", { profile: { step_us: { prefill: 5_000_000, decode: 5_000_000 } } });
  const embedding = post("/v1/embeddings", { input: "mill" });
  await until({ running: 4 });
  await post("/sleep");
  expect((await embedding).status).toBe(500);
  expect(await picture.text()).not.toContain("completed");
  expect(await events.text()).not.toContain("speech.audio.done");
  const rest = async (): Promise<string> => {
    while (!(await reader?.read())?.done);
    return "a whole end";
  };
  expect(await rest().catch((error: { code: string }) => error.code)).toBe("ECONNRESET");
  await until({ running: 0, waiting: 0 });
});

test("prefixes are forgotten at once where what runs may be preempted", async () => {
  simulator = await startSimulator({ profile: "8b-h100" });
  const streamed = await chat({ ...endless, stream: true });
  const reset = async (query: string) => (await post(`/reset_prefix_cache${query}`)).json();
  expect(await reset("")).toEqual({ success: false });
  expect(await reset("?reset_running_requests=true")).toEqual({ success: true });
  await streamed.body?.cancel();
  await until({ running: 0, waiting: 0 });
});

test("a request waits while its adapter has no slot, and /metrics says for which", async () => {
  simulator = await startSimulator({ profile: "8b-h100" });
  await post("/admin/config", { profile: { max_loras: 1 } });
  for (const name of ["one", "two"])
    await post("/v1/load_lora_adapter", { lora_name: name, lora_path: `/weights/${name}` });
  const one = await chat({ ...endless, model: "one", stream: true });
  const two = chat({ ...question, model: "two", max_tokens: 1 });
  await until({ running: 1, waiting: 1 });
  expect((await chat({ ...question, max_tokens: 1 })).status).toBe(200); // the model itself needs no slot
  const { found, waiting, labels } = await metrics();
  expect([waiting("deferred"), waiting("capacity"), found.value("vllm:num_requests_waiting", labels)]).toEqual([
    1, 0, 1,
  ]);
  const seconds = found.value(
    "vllm:lora_requests_info",
    'max_lora="1",running_lora_adapters="one",waiting_lora_adapters="two"',
  );
  expect(Math.abs(seconds - Date.now() / 1_000)).toBeLessThan(60);
  await one.body?.cancel();
  expect((await two).status).toBe(200);
});

test("a grammar is compiled for the first request that has it, and for no free text", async () => {
  simulator = await startSimulator();
  const compileFor = (us: number) => post("/admin/config", { profile: { compile_us: us } });
  const tools = [{ type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } }];
  const schema = { type: "object", properties: { age: { type: "integer" } }, required: ["age"] };
  for (const body of [
    { response_format: { type: "json_schema", json_schema: { name: "a", schema } } },
    { structured_outputs: { choice: ["yes", "no"] } },
    { tools, tool_choice: "required" },
  ]) {
    await compileFor(100_000);
    const begun = performance.now();
    expect((await chat({ ...question, ...body })).status).toBe(200);
    expect(performance.now() - begun).toBeGreaterThan(99);
    await compileFor(60_000_000); // nobody waits so long: it is not compiled again
    expect((await chat({ ...question, ...body })).status).toBe(200);
  }
  for (const body of [{}, { response_format: { type: "text" } }, { tools }]) {
    expect((await chat({ ...question, ...body })).status).toBe(200);
  }
});

test("a full queue answers 503 where it is told to", async () => {
  simulator = await startSimulator({ profile: "8b-h100" });
  await post("/admin/config", { profile: { max_num_seqs: 1, max_waiting: 0, full_status: 503 } });
  const first = await chat({ ...endless, stream: true });
  const refused = await chat();
  const { error } = (await refused.json()) as { error: object };
  expect([refused.status, error]).toEqual([
    503,
    { message: "Too many requests are waiting.", type: "ServiceUnavailableError", param: null, code: 503 },
  ]);
  await first.body?.cancel();
});

test("a recording is replayed, the same for the same request", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sim-replay-"));
  const path = join(folder, "own.jsonl");
  const gaps = Array.from({ length: 5 }, () => 20);
  await Bun.write(path, `${JSON.stringify({ ttft_ms: 60, itl_ms: gaps })}\n`);
  simulator = await startSimulator({ profile: path });
  await rm(folder, { recursive: true });
  const begun = performance.now();
  const answer = await chat({ ...question, ignore_eos: true, max_tokens: 6 });
  expect(answer.status).toBe(200);
  expect(performance.now() - begun).toBeGreaterThan(60 + 5 * 20 - 5);
  expect(await answer.json()).toMatchObject({ system_fingerprint: "millrace-sim-replay" });
  const config = (await (await fetch(`${simulator.url}/admin/config`)).json()) as { profile: { replay: string } };
  expect(config.profile.replay).toBe(path);
  expect((await post("/admin/config", { profile: { max_num_seqs: 2 } })).status).toBe(200);
});
