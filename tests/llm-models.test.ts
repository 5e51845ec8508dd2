// Language models on the real stack: what GET /v1/models says of them, read by the official SDK too; a models file that
// changes while everything runs; a model that goes on at its fallback. The model servers are simulators.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI, { NotFoundError } from "openai";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { startSecondGateway } from "./second-gateway.ts";
import { type Stack, startStack } from "./stack.ts";

let folder: string;
let main: Simulator;
let spare: Simulator;
let stack: Stack;
let client: OpenAI;
const cleanup = new AsyncDisposableStack();

const modelsFile = (models: string): string => `
providers:
  default: { base_url: "\${LLM_BASE_URL}", discover: true }
  spare: { kind: vllm, base_url: "${spare.url}" }
models:
  assistant:
    aliases: [gpt-4o-mini]
    version: "7"
    stage: production
    variants: [{ provider: default, model: meta-llama/Llama-3 }]
    fallbacks: [assistant-spare]
  assistant-spare: { variants: [{ provider: spare, model: spare/model }], endpoints: [chat] }
${models}`;
const write = (text: string): Promise<void> => writeFile(join(folder, "models.yaml"), text);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace models "));
  cleanup.defer(() => rm(folder, { recursive: true }));
  [main, spare] = await Promise.all([
    startSimulator({ models: ["meta-llama/Llama-3"] }),
    startSimulator({ models: ["spare/model"] }),
  ]);
  cleanup.defer(async () => void (await Promise.all([main.stop(), spare.stop()])));
  await write(modelsFile(""));
  // Nobody answers as that proxy: servers on this machine are reached without it.
  const settings = {
    LLM_BASE_URL: main.url,
    MODELS_FILE: join(folder, "models.yaml"),
    HTTP_PROXY: "http://127.0.0.1:1",
  };
  stack = await startStack({ settings: { ...settings, MODELS: "echo" } });
  cleanup.defer(() => stack.stop());
  client = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 });
  await stack.until("the model", 10_000, async () => (await healthOf("assistant")) || null);
}, 60_000);
afterAll(() => cleanup.disposeAsync());

interface Entry {
  readonly id: string;
  readonly owned_by: string;
  readonly millrace: { readonly kind: string; readonly healthy: boolean; readonly [field: string]: unknown };
}
async function entryOf(id: string): Promise<Entry | null> {
  const response = await stack.call("GET", `/v1/models/${id}`);
  return response.status === 200 ? ((await response.json()) as Entry) : null;
}
const healthOf = async (id: string): Promise<boolean | null> => (await entryOf(id))?.millrace.healthy ?? null;
const answersAs = async (model: string): Promise<string> => {
  const { model: by } = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Which model are you?" }],
    max_tokens: 8,
  });
  return by;
};
const metricOf = async (start: string): Promise<string | undefined> =>
  (await (await fetch(`${stack.url}/metrics`)).text()).split("\n").find((line) => line.startsWith(start));

test("the official SDK lists language models, the file's first, then runners, and finds one by a name with slashes or an alias", async () => {
  const listed: Record<string, string> = {};
  for await (const model of client.models.list()) listed[model.id] = (model as unknown as Entry).millrace.kind;
  expect(Object.entries(listed)).toEqual([
    ["assistant", "llm"],
    ["assistant-spare", "llm"],
    ["meta-llama/Llama-3", "llm"],
    ["echo", "runner"],
  ]);
  expect(await client.models.retrieve("meta-llama/Llama-3")).toMatchObject({
    id: "meta-llama/Llama-3",
    object: "model",
    owned_by: "millrace",
    millrace: { kind: "llm", stage: "ready", aliases: [], healthy: true },
  } as object);
  expect(await entryOf("gpt-4o-mini")).toMatchObject({
    id: "assistant",
    millrace: { version: "7", stage: "production", aliases: ["gpt-4o-mini"] },
  });
  expect((await entryOf("assistant-spare"))?.millrace.endpoints).toEqual(["/v1/chat/completions"]);
  expect((await entryOf("echo"))?.millrace.kind).toBe("runner");
});

test("slashes may be encoded or not, HEAD is answered, and what is unknown is so in OpenAI's words", async () => {
  for (const path of ["meta-llama/Llama-3", "meta-llama%2FLlama-3"]) {
    for (const method of ["GET", "HEAD"]) {
      expect([path, method, (await stack.call(method, `/v1/models/${path}`)).status]).toEqual([path, method, 200]);
    }
  }
  for (const name of ["none", "a/b/c", "%zz", "a%00b", "..%2f..%2fetc", "meta-llama/", "x".repeat(5_000)]) {
    const response = await stack.call("GET", `/v1/models/${name}`);
    expect([name.slice(0, 20), response.status, await response.json()]).toEqual([
      name.slice(0, 20),
      404,
      { error: expect.objectContaining({ code: "model_not_found", type: "invalid_request_error" }) },
    ]);
  }
  const refused = await client.models.retrieve("no/such").catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(NotFoundError);
  expect((await stack.call("POST", "/v1/models/meta-llama/Llama-3", {})).status).toBe(405);
});

test("nothing that is told names a server", async () => {
  const told = await (await stack.call("GET", "/v1/models")).text();
  for (const { url } of [main, spare]) expect(told).not.toContain(new URL(url).port);
});

test("a changed file is taken over by the gateway and the actor, a broken one by neither", async () => {
  await write("models: nonsense");
  await stack.until("both to refuse it", 10_000, async () => {
    const refused = stack
      .log()
      .filter(({ message }) => String(message).startsWith("the models file is not taken over"));
    return new Set(refused.map(({ part }) => part)).size === 2 ? true : null;
  });
  expect(await answersAs("assistant")).toBe("meta-llama/Llama-3");
  await write(
    modelsFile(`  added: { variants: [{ provider: spare, model: spare/model }] }\ndefaults: { chat: added }`),
  );
  await stack.until("the new model", 10_000, async () => (await healthOf("added")) || null);
  expect(await answersAs("added")).toBe("spare/model");
});

test("a gateway that knows no server knows the models of the actors, as soon as it is ready", async () => {
  const second = await startSecondGateway(stack, { HTTP_PROXY: "http://127.0.0.1:1" });
  cleanup.defer(() => second.stop());
  const model = (await (await second.call("GET", "/v1/models/meta-llama/Llama-3")).json()) as Entry;
  expect(model.millrace).toMatchObject({ kind: "llm", healthy: true });
  const call = { model: model.id, messages: [{ role: "user", content: "Hello." }], max_tokens: 4 };
  expect((await second.call("POST", "/v1/chat/completions", call)).status).toBe(200);
});

test("when the server of a model dies, its fallback answers; metrics and /v1/models say so", async () => {
  expect(await answersAs("gpt-4o-mini")).toBe("meta-llama/Llama-3");
  expect(await metricOf('ai_model_health{model="assistant",provider="default"}')).toEndWith(" 1");
  expect([await metricOf("ai_retries_total{"), await metricOf("ai_fallbacks_total{")]).toEqual([undefined, undefined]);
  const breaker = 'millrace_llm_breaker_state{model="assistant",variant="default",provider="default"}';
  expect(await metricOf(breaker)).toEndWith(" 0");
  await main.stop();
  for (let call = 0; call < 6; call++) expect(await answersAs("gpt-4o-mini")).toBe("spare/model");
  // Five tries open the breaker: the sixth call goes to the fallback at once.
  expect(await metricOf('ai_retries_total{model="assistant",reason="failed"}')).toEndWith(" 5");
  expect(await metricOf('ai_fallbacks_total{model="assistant"}')).toEndWith(" 6");
  expect(await metricOf(breaker)).toEndWith(" 2");
  expect(await metricOf('ai_model_health{model="assistant",provider="default"}')).toEndWith(" 0");
  expect([await healthOf("assistant"), await healthOf("assistant-spare")]).toEqual([false, true]);
});
