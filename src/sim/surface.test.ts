// Every fault as a client sees it on the wire, and the state that /admin/config and its neighbours change.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Simulator, startSimulator } from "./simulator.ts";

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator();
});
afterAll(() => simulator.stop());

const QUESTION = { messages: [{ role: "user", content: "Tell me about the mill by the river." }] };

const post = (path: string, body: object, headers: Record<string, string> = {}, signal?: AbortSignal) =>
  fetch(simulator.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });

interface Seen {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The code of the error that ended it. */
  readonly broken: string | null;
}

/** What arrives of an answer with this fault. */
async function see(fault: string, body: object = {}): Promise<Seen> {
  let text = "";
  let response: Response | null = null;
  let broken: string | null = null;
  const decoder = new TextDecoder();
  try {
    response = await post("/v1/chat/completions", { ...QUESTION, ...body }, { "x-sim-fault": fault });
    for await (const chunk of response.body ?? []) text += decoder.decode(chunk, { stream: true });
  } catch (error) {
    broken = String((error as { code?: unknown }).code);
  }
  return { status: response?.status ?? 0, headers: response?.headers ?? new Headers(), text, broken };
}

const stream = (fault: string, body: object = {}): Promise<Seen> =>
  see(fault, { stream: true, stream_options: { include_usage: true }, ...body });

/** Asks again and again until it is so. */
async function until(look: () => Promise<true | null> | true | null): Promise<void> {
  for (const deadline = performance.now() + 5_000; performance.now() < deadline; ) {
    if ((await look()) !== null) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await look()).toBe(true);
}

const eventsOf = ({ text }: Seen): string[] => text.split(/\r?\n\r?\n/).filter(Boolean);
interface Chunk {
  readonly choices?: { delta: { content?: string } }[];
  readonly usage?: { completion_tokens: number };
  readonly error?: { message: string; type: string; code: number };
}
const chunksOf = (seen: Seen): Chunk[] =>
  eventsOf(seen).flatMap((event) => (event.startsWith("data: {") ? [JSON.parse(event.slice(6)) as Chunk] : []));
const tokensOf = (seen: Seen): string[] =>
  chunksOf(seen).flatMap(({ choices = [] }) => choices.flatMap(({ delta }) => delta.content || []));
const ends = ({ text }: Seen): boolean => text.endsWith("data: [DONE]\n\n");

let whole: Seen;
beforeAll(async () => {
  whole = await stream("delay_ms=1");
});

test("a status stands instead of the answer, in vLLM's shape", async () => {
  const full = await see("status=429; retry_after=2");
  expect([full.status, full.headers.get("retry-after")]).toEqual([429, "2"]);
  expect(JSON.parse(full.text)).toEqual({
    error: { message: "Too many requests are waiting.", type: "RateLimitError", param: null, code: 429 },
  });
  expect((await see("status=500")).text).toContain("CUDA out of memory");
  const proxy = await see("status=502; body=<h1>Bad Gateway</h1>");
  expect([proxy.status, proxy.headers.get("content-type"), proxy.text]).toEqual([
    502,
    "text/html",
    "<h1>Bad Gateway</h1>",
  ]);
  expect(JSON.parse((await see("status=401;message=No entry")).text)).toMatchObject({ error: { message: "No entry" } });
});

test("a reset comes before any byte, a cut after the tokens that it lets through", async () => {
  expect(await stream("reset")).toMatchObject({ status: 0, text: "", broken: "ECONNRESET" });
  for (const after of [0, 3]) {
    const cut = await stream(`after=${after}; cut`);
    expect([cut.status, cut.broken, tokensOf(cut)]).toEqual([200, "ECONNRESET", tokensOf(whole).slice(0, after)]);
  }
});

test("an end is a clean one, with the answer unfinished", async () => {
  const ended = await stream("after=2; end");
  expect([ended.broken, ends(ended), tokensOf(ended).length]).toEqual([null, false, 2]);
  expect(ended.text).not.toContain('"finish_reason":"stop"');
});

test("a socket that is closed refuses connections until it is open again, and finishes what it has begun", async () => {
  const begun = post("/v1/chat/completions", { ...QUESTION, stream: true }, { "x-sim-fault": "after=1; stall_ms=300" });
  await until(() => simulator.inflight() > 0 || null);
  expect((await see("refuse_ms=500")).broken).toBe("ECONNRESET");
  expect((await see("delay_ms=0")).broken).toBe("ECONNREFUSED");
  await until(async () => (await see("delay_ms=0")).status === 200 || null);
  expect((await (await begun).text()).endsWith("data: [DONE]\n\n")).toBe(true);
});

test("an error event comes in vLLM's form, with [DONE] or without", async () => {
  const failed = await stream("after=1; error");
  const { error } = chunksOf(failed).at(-1) ?? {};
  expect(error).toEqual({ ...error, type: "InternalServerError", code: 500 } as typeof error);
  expect([tokensOf(failed).length, ends(failed)]).toEqual([1, true]);
  expect(ends(await stream("after=1; error; no_done"))).toBe(false);
});

test("an answer that is given up says so, as a stream and whole", async () => {
  const streamed = await stream("after=2; abort");
  expect([tokensOf(streamed).length, ends(streamed)]).toEqual([2, true]);
  expect(eventsOf(streamed).at(-2)).toMatch(/"delta":\{\}.*"finish_reason":"abort"/);
  expect(JSON.parse((await see("abort")).text)).toMatchObject({ choices: [{ finish_reason: "abort" }] });
});

test("one event is broken, doubled or without choices, and the rest is whole", async () => {
  const malformed = await stream("after=1; malformed");
  const parsed = eventsOf(malformed).filter((event) => {
    try {
      return event === "data: [DONE]" || JSON.parse(event.slice(6));
    } catch {
      return false;
    }
  });
  expect([parsed.length, ends(malformed)]).toEqual([eventsOf(whole).length - 1, true]);
  const doubled = tokensOf(await stream("after=1; duplicate"));
  expect(doubled).toEqual(tokensOf(whole).toSpliced(1, 0, tokensOf(whole)[1] ?? ""));
  const empty = await stream("after=1; empty_choices");
  expect(chunksOf(empty)[2]).toMatchObject({ choices: [] });
  expect(tokensOf(empty)).toEqual(tokensOf(whole));
});

test("comments, line ends, pieces and several events in a write change nothing that a client reads", async () => {
  const flooded = await stream("after=1; comments=500");
  expect(flooded.text.split(": comment\n\n").length).toBe(501);
  const crlf = await stream("crlf");
  expect(crlf.text).toContain("\r\n\r\n");
  for (const seen of [flooded, crlf, await stream("split=3"), await stream("merge=3"), await stream("split;merge")]) {
    expect(tokensOf(seen)).toEqual(tokensOf(whole));
    expect(eventsOf(seen).at(-1)).toBe("data: [DONE]");
  }
});

test("usage is missing or wrong, [DONE] missing, the content type another", async () => {
  const count = chunksOf(whole).at(-1)?.usage?.completion_tokens ?? 0;
  expect(count).toBe(tokensOf(whole).length + 1); // the end of sequence is a token
  expect((await stream("no_usage")).text).not.toContain('"usage":{');
  expect(chunksOf(await stream("wrong_usage")).at(-1)?.usage?.completion_tokens).toBe(2 * count + 1);
  expect(ends(await stream("no_done"))).toBe(false);
  expect((await stream("content_type=text/html")).headers.get("content-type")).toBe("text/html");
});

test("time is lost before the headers, at one place, or at every token", async () => {
  const took = async (fault: string): Promise<number> => {
    const begun = performance.now();
    expect(tokensOf(await stream(fault))).toEqual(tokensOf(whole));
    return performance.now() - begun;
  };
  expect(await took("delay_ms=80")).toBeGreaterThan(78);
  expect(await took("after=1; stall_ms=80")).toBeGreaterThan(78);
  expect(await took("itl_ms=5")).toBeGreaterThan(5 * (tokensOf(whole).length - 1));
});

test("what hangs ends with its client, in the engine too", async () => {
  for (const fault of ["hang", "after=1; hang", "after=1; stall_ms=3600000"]) {
    const leaving = new AbortController();
    const body = { ...QUESTION, stream: true, ignore_eos: true, max_tokens: 100_000 };
    const answering = post("/v1/chat/completions", body, { "x-sim-fault": fault }, leaving.signal);
    if (fault !== "hang") {
      const reader = (await answering).body?.getReader();
      await reader?.read();
    }
    leaving.abort();
    await answering.catch(() => null);
  }
  const deadline = performance.now() + 5_000;
  while (simulator.inflight() > 0 && performance.now() < deadline) await fetch(`${simulator.url}/health`);
  expect(simulator.inflight()).toBe(0);
});

test("an answer that is no stream breaks too", async () => {
  expect(await see("cut")).toMatchObject({ status: 200, broken: "ECONNRESET" });
  for (const fault of ["end", "malformed"]) {
    const { status, text, broken } = await see(fault);
    expect([status, broken]).toEqual([200, null]);
    expect(() => JSON.parse(text)).toThrow();
  }
  expect(JSON.parse((await see("empty_choices")).text)).toMatchObject({ choices: [], usage: {} });
  expect(JSON.parse((await see("no_usage")).text).usage).toBeUndefined();
  expect(JSON.parse((await see("error")).text)).toMatchObject({ error: { code: 500 } });
});

test("a fault may be asked for in the body, and one that there is not is refused", async () => {
  const body = { ...QUESTION, vllm_xargs: { sim_fault: "status=503" } };
  expect((await post("/v1/chat/completions", body)).status).toBe(503);
  const unknown = await see("explode");
  expect([unknown.status, JSON.parse(unknown.text).error.message]).toEqual([400, 'no fault is named "explode"']);
});

const config = (change: object): Promise<Response> => post("/admin/config", change);

test("a rule of /admin/config hits once where it is told so, and says what it did", async () => {
  const rule = { fault: "status=503", times: 1, match: { content: "special" } };
  expect((await config({ faults: [rule] })).status).toBe(200);
  const special = { messages: [{ role: "user", content: "a special question" }] };
  const statuses = [];
  for (const body of [QUESTION, special, special]) statuses.push((await post("/v1/chat/completions", body)).status);
  expect(statuses).toEqual([200, 503, 200]);
  const { faults } = (await (await fetch(`${simulator.url}/admin/config`)).json()) as { faults: object[] };
  expect(faults).toEqual([{ ...rule, seen: 2, injected: 1 }]);
  await config({ faults: [] });
});

test("a change is made whole or not at all", async () => {
  const read = async () => (await fetch(`${simulator.url}/admin/config`)).json();
  const before = await read();
  const wrong = [
    { profile: { max_num_seqs: 3 }, fault: [] },
    { profile: { max_num_seqs: 0 } },
    { profile: { speed: 1 } },
    { profile: { step_us: { decodes: 1 } } },
    { profile: { num_blocks: 1_000_000 } },
    { profile: { max_num_seqs: 3 }, faults: [{ fault: "explode" }] },
    { profile: { max_num_seqs: 3 }, engine_dead: "yes" },
    { faults: [{ fault: "cut" }], profile: { name: "8b-h100" } },
  ];
  for (const change of wrong) expect([change, (await config(change)).status]).toEqual([change, 400]);
  expect(await read()).toEqual(before);
  const changed = await config({ profile: { max_num_seqs: 3, step_us: { decode: 100 } } });
  expect(await changed.json()).toMatchObject({ profile: { max_num_seqs: 3, step_us: { decode: 100, prefill: 0 } } });
  await config({ profile: { max_num_seqs: 4096, step_us: { decode: 0 } } });
});

test("a dead engine answers nothing until it is revived", async () => {
  const status = async (path: string) => (await fetch(simulator.url + path)).status;
  expect([await status("/health"), await status("/health/ready")]).toEqual([200, 200]);
  expect((await see("dead")).status).toBe(500);
  expect([await status("/health"), await status("/health/ready")]).toEqual([503, 503]);
  expect((await post("/v1/chat/completions", QUESTION)).status).toBe(500);
  await config({ engine_dead: false });
  expect([await status("/health"), (await post("/v1/chat/completions", QUESTION)).status]).toEqual([200, 200]);
});

test("it sleeps, wakes up, and forgets its prefixes", async () => {
  const asleep = async () => (await fetch(`${simulator.url}/is_sleeping`)).json();
  expect((await post("/sleep?level=2", {})).status).toBe(200);
  expect(await asleep()).toEqual({ is_sleeping: true });
  expect((await post("/v1/chat/completions", QUESTION)).status).toBe(503);
  expect((await post("/wake_up", {})).status).toBe(200);
  expect(await asleep()).toEqual({ is_sleeping: false });
  expect((await post("/v1/chat/completions", QUESTION)).status).toBe(200);
  expect((await post("/sleep?level=9", {})).status).toBe(400);
  expect(await (await post("/reset_prefix_cache", {})).json()).toEqual({ success: true });
  expect(await (await fetch(`${simulator.url}/version`)).json()).toMatchObject({
    version: expect.stringContaining("sim"),
  });
  expect(await (await fetch(`${simulator.url}/load`)).json()).toEqual({ server_load: 0 });
});

test("it is ready when its start-up time is over", async () => {
  const profile = await Bun.file(`${import.meta.dir}/profiles/instant.yaml`).text();
  const path = `${process.env.TMPDIR ?? "/tmp"}/sim-startup-${process.pid}.yaml`;
  await Bun.write(path, profile.replace("startup_ms: 0", "startup_ms: 150"));
  const slow = await startSimulator({ profile: path });
  const ready = async () => (await fetch(`${slow.url}/health/ready`)).status;
  expect(await ready()).toBe(503);
  const deadline = performance.now() + 5_000;
  while ((await ready()) !== 200 && performance.now() < deadline);
  expect(await ready()).toBe(200);
  await slow.stop();
  await Bun.file(path).delete();
});
