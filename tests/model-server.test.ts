// VLLM_COMMAND on the real stack: each actor starts a model server of its own (the simulator), which comes back when it
// is killed and never outlives its actor.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Stack, startStack } from "./stack.ts";

const MAIN = join(import.meta.dir, "../src/main.ts");
let stack: Stack;

beforeAll(async () => {
  stack = await startStack({
    settings: {
      GPU_IDS: "0,1",
      MODELS: "echo",
      // The shell is there for quotes and variables; what a model's server may not know is checked by its own name.
      VLLM_COMMAND: `SIM_PORT={port} SIM_PROFILE=instant SIM_MODELS="sim/gpu-{gpu},sim/\${API_KEYS:-none}" "${process.execPath}" "${MAIN}" sim`,
    },
  });
}, 60_000);
afterAll(() => stack.stop());

const servers = (gpu: string): number[] =>
  stack.log().flatMap((line) => {
    const { gpu: of, message, process_pid: pid } = line;
    return of === gpu && message === "the model server starts" ? [Number(pid)] : [];
  });
const alive = (pid: number): boolean =>
  existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
const parentOf = (pid: number): number => Number(/\) \w (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1]);
const gone = (pid: number) => stack.until(`end of ${pid}`, 15_000, async () => (alive(pid) ? null : true));
const healthy = (id: string, wanted: boolean) =>
  stack.until(`${id} to be ${wanted ? "healthy" : "down"}`, 15_000, async () => {
    const response = await stack.call("GET", `/v1/models/${id}`);
    if (response.status !== 200) return null;
    const { millrace } = (await response.json()) as { millrace: { healthy: boolean } };
    return millrace.healthy === wanted ? true : null;
  });
const next = (gpu: string, count: number) =>
  stack.until(`server ${count} of GPU ${gpu}`, 15_000, async () => servers(gpu)[count - 1] ?? null);

test("each actor has a server on its own GPU, which does not see the secrets of the service", async () => {
  await Promise.all([healthy("sim/gpu-0", true), healthy("sim/gpu-1", true), healthy("sim/none", true)]);
  const [first, second] = await Promise.all([next("0", 1), next("1", 1)]);
  expect(parentOf(first)).not.toBe(parentOf(second));
  expect(
    stack.log().some(({ from, message }) => from === "model server" && String(message).includes("simulator")),
  ).toBe(true);
});

const answered = async (model: string): Promise<number> => {
  const body = { model, messages: [{ role: "user", content: "Hello." }], max_tokens: 4 };
  const response = await stack.call("POST", "/v1/chat/completions", body);
  await response.body?.cancel();
  return response.status;
};

test("a call goes to a GPU whose server has the model", async () => {
  const calls = ["sim/gpu-0", "sim/gpu-1", "sim/none", "sim/gpu-1", "sim/gpu-0", "sim/none"];
  expect(await Promise.all(calls.map(answered))).toEqual(calls.map(() => 200));
});

test("a server that is killed is down while another answers for it, and comes back", async () => {
  const killed = await next("0", 1);
  process.kill(killed, "SIGKILL");
  expect(await Promise.all(Array.from({ length: 8 }, () => answered("sim/none")))).toEqual(Array(8).fill(200));
  await next("0", 2);
  await healthy("sim/gpu-0", true);
  expect(alive(killed)).toBe(false);
  await healthy("sim/gpu-1", true);
});

test("the server of an actor that is killed goes with it; the next actor has one", async () => {
  const orphan = await next("1", 1);
  process.kill(await stack.pidOf("actor-1"), "SIGKILL");
  await gone(orphan);
  await next("1", 2);
  await healthy("sim/gpu-1", true);
});

test("a server whose guard is killed goes too, and comes back", async () => {
  const unguarded = await next("1", 2);
  process.kill(parentOf(unguarded), "SIGKILL");
  await gone(unguarded);
  await next("1", 3);
  await healthy("sim/gpu-1", true);
});

test("nothing is left at the end, nor when the whole supervisor is killed", async () => {
  const last = [await next("0", 2), await next("1", 3)];
  expect(last.map(alive)).toEqual([true, true]);
  await stack.kill();
  await Promise.all(last.map(gone));
});
