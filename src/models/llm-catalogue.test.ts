import { afterEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { silentLog } from "../log.ts";
import { openLlmModels } from "./llm-catalogue.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of cleanup.splice(0).reverse()) await end();
});

async function open(env: Record<string, string>, text?: string, port: number | null = null) {
  const folder = await mkdtemp(join(tmpdir(), "models "));
  cleanup.push(() => rm(folder, { recursive: true }));
  const path = join(folder, "models.yaml");
  if (text !== undefined) await writeFile(path, text);
  const models = await openLlmModels({
    config: loadConfig({ ...env, ...(text !== undefined && { MODELS_FILE: path }) }).llm,
    variables: env,
    actors: () => [],
    serverPort: () => port,
    clock: systemClock,
    log: silentLog,
  });
  cleanup.push(models.stop);
  return models;
}
const unavailable = expect.objectContaining({ code: "model_unavailable" });

test("the shipped file reaches the server of LLM_BASE_URL, with its key, and with a path where it has none", async () => {
  const models = await open({ LLM_BASE_URL: "http://gpu-{gpu}:8000/", LLM_API_KEY: "k" });
  expect(models.provider("default", "3")).toEqual({
    baseUrl: "http://gpu-3:8000/v1",
    apiKey: "k",
    headers: {},
    timeouts: { connectMs: 2_000, firstTokenMs: 60_000, betweenTokensMs: 30_000, totalMs: 600_000 },
  });
  expect(models.providers().map(({ name, perGpu }) => [name, perGpu])).toEqual([["default", true]]);
});

test("without a server there is no provider, and asking for one tells nothing of where it would be", async () => {
  const models = await open({});
  expect(models.providers()).toEqual([]);
  for (const name of ["default", "none"]) expect(() => models.provider(name, "0")).toThrow(unavailable);
});

test("with VLLM_COMMAND it is the server of this actor, once there is one", async () => {
  const env = { VLLM_COMMAND: "vllm serve x --port {port}" };
  const models = await open(env);
  expect(() => models.provider("default", "0")).toThrow(unavailable);
  expect((await open(env, undefined, 4_711)).provider("default", "0").baseUrl).toBe("http://127.0.0.1:4711/v1");
});

test("headers, limits and keys of a provider come from the file and its variables", async () => {
  const text = `
providers:
  one:
    base_url: https://models.example/openai/v1/
    api_key: "\${ONE_KEY}"
    headers: { x-org: "\${ORG:-none}" }
    timeouts: { connect_ms: 500, total_ms: 1000 }
`;
  expect((await open({ ONE_KEY: "secret" }, text)).provider("one", "0")).toEqual({
    baseUrl: "https://models.example/openai/v1",
    apiKey: "secret",
    headers: { "x-org": "none" },
    timeouts: { connectMs: 500, firstTokenMs: 60_000, betweenTokensMs: 30_000, totalMs: 1_000 },
  });
  await expect(open({}, text)).rejects.toThrow("/providers/one/api_key needs ONE_KEY, which is not set");
});
