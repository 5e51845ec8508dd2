// Live calls through the whole product, with processes that are really killed: two actors in front of one simulator that
// takes its time, so that a kill hits the call where the test wants it.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { contentOf } from "./live-calls.ts";
import { type Stack, startStack, until } from "./stack.ts";

setDefaultTimeout(60_000);

let sim: Simulator;
let stack: Stack;
beforeAll(async () => {
  sim = await startSimulator({ profile: "8b-h100" });
  stack = await startStack({ settings: { GPU_IDS: "0,1", MODELS: "echo", LLM_BASE_URL: sim.url, LOG_LEVEL: "debug" } });
  await actorsReady();
});
afterAll(async () => {
  await stack?.stop();
  await sim?.stop();
});

/** Both actors have announced the model. */
async function actorsReady(): Promise<void> {
  await until("two actors", 20_000, async () => {
    const { data } = (await (await stack.call("GET", "/v1/actors")).json()) as { data?: unknown[] };
    return data?.length === 2 ? true : null;
  });
  await until("the model", 20_000, async () => ((await stack.call("GET", "/v1/models/millrace-sim")).ok ? true : null));
}

const body = (tokens: number, fault?: string) => ({
  model: "millrace-sim",
  stream: true,
  max_tokens: tokens,
  min_tokens: tokens,
  ignore_eos: true,
  messages: [{ role: "user", content: "What turns the wheel?" }],
  ...(fault !== undefined && { vllm_xargs: { sim_fault: fault } }),
});

/** The one of the two that serves the call. */
async function actorOf(requestId: string): Promise<"actor-0" | "actor-1"> {
  const { actor } = await stack.logged({ message: "live call", request_id: requestId });
  return /-0-\d+$/.test(String(actor)) ? "actor-0" : "actor-1";
}

const kill = async (name: string): Promise<void> => void process.kill(await stack.pidOf(name), "SIGKILL");
const inflight = async (): Promise<number> =>
  ((await (await fetch(`${sim.url}/admin/inflight`)).json()) as { inflight: number }).inflight;
const nothingRuns = (): Promise<true> =>
  until("an idle model server", 5_000, async () => ((await inflight()) === 0 ? true : null));

/** Bytes that the broker has sent to and had from its clients, by their names: what stands after the GPU's number alone. */
async function carried(): Promise<Record<string, number>> {
  const folder = join(stack.dataDir, "nats/ports");
  const [file = ""] = (await readdir(folder)).filter((name) => name.endsWith(".ports"));
  const { monitoring } = (await Bun.file(join(folder, file)).json()) as { monitoring: string[] };
  const { connections } = (await (await fetch(`${monitoring[0]}/connz`)).json()) as {
    connections: { name: string; in_bytes: number; out_bytes: number }[];
  };
  const bytes: Record<string, number> = {};
  for (const { name, in_bytes, out_bytes } of connections) {
    const of = name.replace(/ \d+/, "");
    bytes[of] = (bytes[of] ?? 0) + in_bytes + out_bytes;
  }
  return bytes;
}

test("tokens have a connection of their own, at both ends", async () => {
  const before = await carried();
  const answer = await stack.call("POST", "/v1/chat/completions", body(300));
  const sizeBytes = (await answer.text()).length;
  const after = await carried();
  const grown = (name: string): number => (after[name] ?? Number.NaN) - (before[name] ?? 0);
  for (const process of ["gateway", "actor"]) {
    expect([process, grown(`millrace ${process} tokens`) >= sizeBytes]).toEqual([process, true]);
    expect([process, grown(`millrace ${process}`) < sizeBytes / 2]).toEqual([process, true]);
  }
});

test("an actor killed before the first token: the other one answers, within milliseconds", async () => {
  const response = stack.call("POST", "/v1/chat/completions", body(20, "delay_ms=1500"), { "x-request-id": "early" });
  const name = await actorOf("early");
  const killedAtMs = performance.now();
  await kill(name);
  const answer = await response;
  expect(answer.status).toBe(200);
  const text = await answer.text();
  expect([text.endsWith("data: [DONE]\n\n"), text.includes('"error"')]).toEqual([true, false]);
  // Its own delay again, and not the silence of an actor that nobody told of.
  expect(performance.now() - killedAtMs).toBeLessThan(5_000);
  await actorsReady();
});

test("an actor killed in the middle: what came stays, then an error event and [DONE]; the socket is closed", async () => {
  const answer = await stack.call("POST", "/v1/chat/completions", body(5_000), { "x-request-id": "middle" });
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader?.read())?.value ?? "";
  await kill(await actorOf("middle"));
  for (;;) {
    const next = await reader?.read();
    if (!next || next.done) break;
    text += next.value;
  }
  expect(contentOf(text).length).toBeGreaterThan(0);
  const [error, last] = text.trimEnd().split("\n\n").slice(-2);
  expect(JSON.parse(error?.slice(6) ?? "")).toMatchObject({ error: { code: "upstream_failed" } });
  expect(last).toBe("data: [DONE]");
  await nothingRuns();
  await actorsReady();
});

/** Streams of the same conversation, which one actor serves, when the first tokens are there. */
async function begun(count: number, tokens: number) {
  const asked = Array.from({ length: count }, (_, i) =>
    stack.call("POST", "/v1/chat/completions", body(tokens), { "x-request-id": `many-${tokens}-${i}` }),
  );
  const texts = (await Promise.all(asked)).map((answer) => answer.text());
  return { texts, actor: await actorOf(`many-${tokens}-0`) };
}

test("an actor that dies says nothing against its server: others go on asking it", async () => {
  const { texts, actor } = await begun(8, 1_000);
  await kill(actor);
  for (const text of await Promise.all(texts)) expect(text).toContain("upstream_failed");
  const next = await stack.call("POST", "/v1/chat/completions", { ...body(5), stream: false });
  expect(next.status).toBe(200);
  await nothingRuns();
  await actorsReady();
});

test("an actor that is told to end has sent its answers to their last byte", async () => {
  const { texts, actor } = await begun(12, 60);
  process.kill(await stack.pidOf(actor), "SIGTERM");
  for (const text of await Promise.all(texts)) {
    expect([text.includes('"error"'), text.endsWith("data: [DONE]\n\n")]).toEqual([false, true]);
  }
  await actorsReady();
});

test("two hundred clients that leave at random leave nothing running", async () => {
  const random = seeded(7);
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const leaving = new AbortController();
      const left = setTimeout(() => leaving.abort(), 20 + random() * 700);
      const messages = [{ role: "user", content: `Question ${i}: what turns the wheel?` }];
      await fetch(`${stack.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "x-api-key": stack.key, "content-type": "application/json" },
        body: JSON.stringify({ ...body(2_000), messages, stream: i % 4 !== 0 }),
        signal: leaving.signal,
      })
        .then((answer) => answer.text())
        .catch(() => {}); // it has left
      clearTimeout(left);
    }),
  );
  await nothingRuns();
  const metrics = await (await stack.call("GET", "/metrics")).text();
  expect(metrics).toMatch(/^millrace_live_calls\{model="millrace-sim"\} 0$/m);
});

test("a gateway that is killed leaves nothing running", async () => {
  const answers = await Promise.all(
    Array.from({ length: 4 }, () => stack.call("POST", "/v1/chat/completions", body(5_000))),
  );
  const readers = answers.map((answer) => answer.body?.getReader());
  await Promise.all(readers.map((reader) => reader?.read()));
  expect(await inflight()).toBe(4);
  await kill("gateway");
  await nothingRuns();
  await Promise.allSettled(readers.map((reader) => reader?.cancel()));
});

/** Numbers in [0, 1), the same for the same seed. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
