// Tasks outlive a model server that loads, is down, or full: through the whole product, with attempts that would be over
// long before. The model server is the simulator, started and stopped under the tasks.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { names, type ReadEvent, readEvents } from "./event-reader.ts";
import { readExposition } from "./exposition.ts";
import { type Stack, startStack, type TaskJson } from "./stack.ts";

const MAIN = join(import.meta.dir, "../src/main.ts");
const cleanup = new AsyncDisposableStack();
let stack: Stack;
let port: number;
let modelsPath: string;
let simulator: Simulator | null = null;

const startServer = async (): Promise<void> => {
  simulator = await startSimulator({ port, models: ["millrace-sim", "crowded", "broken", "locked"] });
};
const stopServer = async (): Promise<void> => {
  await simulator?.stop();
  simulator = null;
};

/** Free a moment ago. */
function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}

/** Nobody ever listens at the first port. What refuses our key has a provider of its own, as it is closed by that. */
const modelsFile = `
providers:
  default: { base_url: "\${LLM_BASE_URL}", discover: true }
  away: { kind: openai, base_url: "http://127.0.0.1:1/v1" }
  guarded: { kind: vllm, base_url: "\${LLM_BASE_URL}" }
  plain: { kind: vllm, base_url: "\${LLM_BASE_URL}" }
models:
  gone: { variants: [{ provider: away, model: gone }] }
  locked: { variants: [{ provider: guarded, model: locked }] }
  nameless: { variants: [{ provider: plain, model: nameless }] }
defaults: { chat: millrace-sim }
`;

beforeAll(async () => {
  port = freePort();
  const folder = await mkdtemp(join(tmpdir(), "millrace model wait "));
  cleanup.defer(() => rm(folder, { recursive: true }));
  modelsPath = join(folder, "models.yaml");
  await writeFile(modelsPath, modelsFile);
  cleanup.defer(stopServer);
  const settings = {
    LLM_BASE_URL: `http://127.0.0.1:${port}`,
    MODELS_FILE: modelsPath,
    MODELS: "chat,asker",
    PLUGINS_DIR: join(import.meta.dir, "fixtures/plugins"),
  };
  stack = await startStack({ settings });
  cleanup.defer(() => stack.stop());
}, 60_000);
afterAll(() => cleanup.disposeAsync());

/** Of the default model where it is null. */
const chat = async (model: string | null, more: object = {}, on = stack): Promise<string> => {
  const input = { messages: [{ role: "user", content: "Say a word." }], max_tokens: 4, ...(model && { model }) };
  return (await on.submit({ model: "chat", input, max_attempts: 1, ...more })).task_id;
};
const ask = async (...models: string[]): Promise<string> =>
  (await stack.submit({ model: "asker", input: { models } })).task_id;

/** The task's events until it waits, for the `count`th time. */
const waits = (taskId: string, count = 1): Promise<ReadEvent[]> => {
  let retries = 0;
  return readEvents(stack, taskId, { last: ({ event }) => event === "RETRY" && ++retries === count });
};
const wait = (seen: readonly ReadEvent[]): ReadEvent | undefined => seen.findLast(({ event }) => event === "RETRY");
/** What the actor counts. */
async function counted(on: Stack, name: string, labels = ""): Promise<number> {
  const { metrics } = on.log().findLast(({ message }) => message === "actor is ready") ?? {};
  return readExposition(await (await fetch(String(metrics))).text()).sum(name, labels);
}
const firstAttempt = ({ status, attempt }: TaskJson) => [status, attempt];
const codeOf = ({ status, error }: TaskJson) => [status, error?.code];
const inVain = { code: "model_unavailable", message: expect.stringMatching(/ The task waited for [\d.]+ s\.$/) };

test("tasks that come before their model server, a plugin's too, wait for it in their first attempt", async () => {
  const ids = await Promise.all([chat("millrace-sim"), ask("millrace-sim")]);
  const waiting = await Promise.all(ids.map((id) => waits(id)));
  for (const [i, seen] of waiting.entries()) {
    const told = { code: "model_unavailable", retryable: true };
    const data = { status: "RETRY", attempt: 1, error: told, waiting_since: expect.any(String) };
    expect(wait(seen)?.data).toMatchObject({ ...data, retry_in_ms: expect.any(Number) });
    expect(await stack.read(ids[i] ?? "")).toMatchObject({ attempt: 1 });
  }
  await startServer();
  const ended = await Promise.all(ids.map((id) => stack.ended(id)));
  expect(ended.map(firstAttempt)).toEqual([
    ["SUCCESS", 1],
    ["SUCCESS", 1],
  ]);
  const seen = await readEvents(stack, ids[0] ?? "");
  expect(names(seen).slice(0, 4)).toEqual(["PENDING", "STARTED", "RETRY", "STARTED"]);
  expect(names(seen)).not.toContain("reset");
});

test("a server that goes away, and an actor that is killed meanwhile, cost no attempt", async () => {
  await stopServer();
  const id = await chat("millrace-sim");
  const first = wait(await waits(id));
  await stack.until("nothing held", 5_000, async () =>
    (await counted(stack, "millrace_actor_jobs")) === 0 ? true : null,
  );
  process.kill(await stack.pidOf("actor-0"), "SIGKILL");
  const again = wait(await waits(id, 2));
  expect([again?.data.attempt, again?.data.waiting_since]).toEqual([1, first?.data.waiting_since]);
  await startServer();
  expect(firstAttempt(await stack.ended(id))).toEqual(["SUCCESS", 1]);
});

describe("a task that waits", () => {
  const start = async (more: object = {}): Promise<[string, ReadEvent[]]> => {
    const id = await chat("gone", more);
    return [id, await waits(id)];
  };

  test("says what for, and since when", async () => {
    const [id, seen] = await start();
    const { error, waiting_since } = wait(seen)?.data ?? {};
    const shown = await stack.until("RETRY", 5_000, async () => {
      const task = await stack.read(id);
      return task.status === "RETRY" ? task : null;
    });
    expect(shown).toMatchObject({ attempt: 1, error, waiting_since });
    const timeline = await (await stack.call("GET", `/v1/tasks/${id}/timeline`)).json();
    expect(timeline).toMatchObject({ complete: true });
    expect((timeline as { entries: object[] }).entries[2]).toMatchObject({ event: "retry", error, waiting_since });
    await stack.call("DELETE", `/v1/tasks/${id}`);
  });

  test("is cancelled at once", async () => {
    const [id] = await start();
    const sinceMs = performance.now();
    expect((await stack.call("POST", `/v1/tasks/${id}/cancel`)).status).toBe(202);
    expect((await stack.ended(id)).status).toBe("CANCELLED");
    expect(performance.now() - sinceMs).toBeLessThan(1_500);
  });

  test("waits up to its deadline, and for as long as it gives an attempt; others go on meanwhile", async () => {
    const bounds = [{ timeout_ms: 800 }, { deadline: new Date(Date.now() + 1_200).toISOString() }];
    const bounded = bounds.map((more) => chat("gone", more));
    expect((await stack.ended(await chat("millrace-sim"))).status).toBe("SUCCESS");
    const ended = await Promise.all(bounded.map(async (id) => stack.ended(await id)));
    for (const task of ended) expect(task).toMatchObject({ status: "FAILURE", attempt: 1, error: inVain });
  });
});

describe("what no server has begun on, and what one has", () => {
  const faults = (rules: readonly object[]) =>
    fetch(`http://127.0.0.1:${port}/admin/config`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ faults: rules }),
    });

  test("a full server is left alone for as long as it asks, or until another comes up", async () => {
    await faults([{ match: { model: "crowded" }, fault: "status=429; retry_after=30", times: 1 }]);
    const id = await chat("crowded");
    const { error, retry_in_ms } = wait(await waits(id))?.data ?? {};
    expect(error).toMatchObject({ code: "model_overloaded" });
    expect(Number(retry_in_ms)).toBeGreaterThanOrEqual(30_000);
    const another = `  another: { base_url: "http://127.0.0.1:${port}", discover: true }\n`;
    await writeFile(modelsPath, modelsFile.replace("models:\n", `${another}models:\n`));
    expect(firstAttempt(await stack.ended(id))).toEqual(["SUCCESS", 1]);
  });

  test("what will not change ends at once", async () => {
    await faults([
      { match: { model: "locked" }, fault: "status=401" },
      { match: { model: "broken" }, fault: "status=400" },
    ]);
    const ended = await Promise.all(
      ["locked", "broken", "nameless", "no-such-model"].map(async (model) => stack.ended(await chat(model))),
    );
    expect(ended.map(codeOf)).toEqual([
      ["FAILURE", "upstream_unauthorized"],
      ["FAILURE", "invalid_input"],
      ["FAILURE", "invalid_input"],
      ["FAILURE", "unknown_model"],
    ]);
    expect(codeOf(await stack.ended(await chat("locked")))).toEqual(["FAILURE", "upstream_unauthorized"]);
  });

  test("a failing server costs attempts, and so does one that has answered before another is missed", async () => {
    await faults([{ match: { model: "broken" }, fault: "status=500" }]);
    const ids = [await chat("broken"), await ask("millrace-sim", "gone")];
    const [failed, late] = await Promise.all(ids.map((id) => readEvents(stack, id)));
    expect(failed?.at(-1)?.data.error).toMatchObject({ code: "upstream_failed" });
    expect(late?.at(-1)?.data.error).toMatchObject({
      code: "model_unavailable",
      message: expect.not.stringContaining("waited"),
    });
    for (const seen of [failed, late]) expect(names(seen ?? [])).not.toContain("RETRY");
  });
});

test.concurrent("after MODEL_WAIT the task ends with what it waited for", async () => {
  const settings = { LLM_BASE_URL: "http://127.0.0.1:1", MODELS: "chat", MODEL_WAIT: "1s" };
  const other = await startStack({ settings });
  try {
    const task = await other.ended(await chat(null, {}, other));
    expect(task).toMatchObject({ status: "FAILURE", attempt: 1, error: inVain });
    expect(await counted(other, "millrace_task_attempts_total", 'model="chat"')).toBe(1);
    expect(await counted(other, "millrace_task_model_waits_total", 'model="chat"')).toBeGreaterThan(0);
  } finally {
    await other.stop();
  }
});

test.concurrent("`up` takes tasks before the model server that it starts has loaded", async () => {
  const server = `SIM_PORT={port} SIM_PROFILE=instant exec '${process.execPath}' '${MAIN}' sim`;
  const settings = { MODELS: "chat", VLLM_COMMAND: `sh -c "sleep 1; ${server}"` };
  const other = await startStack({ settings });
  try {
    const id = await chat(null, {}, other);
    expect(firstAttempt(await other.ended(id))).toEqual(["SUCCESS", 1]);
  } finally {
    await other.stop();
  }
});
