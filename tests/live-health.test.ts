// What calls show of their servers, through the whole service: which failures close a server to others and which do not,
// and how calls fall to the variants of a model. The model servers answer as the words of the call tell them to.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { event, modelServers, streamOf } from "./model-servers.ts";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(30_000);

let stack: Stack;
const servers = modelServers();
const cleanup = new AsyncDisposableStack();
/** Requests that each server had, by its name. */
/** Resolved when an error may come. */
let late = Promise.withResolvers<void>();
const asked = { sick: 0, well: 0 };
const models = ["poisoned", "compared", "spare", "full", "starting", "split", "split-again"] as const;
type Model = (typeof models)[number];

/** A server that obeys the last message where it is `sick`: a status and words for its error, or an error as an event. */
const server = (name: "sick" | "well"): string =>
  servers.serve(async (request) => {
    asked[name]++;
    const { messages } = (await request.json()) as { messages: { content: string }[] };
    const { content = "" } = messages.at(-1) ?? {};
    const [, status, message] = /^(\d{3}) ?(.*)/.exec(content) ?? [];
    if (name === "sick" && status) return Response.json({ error: { message } }, { status: Number(status) });
    if (name === "sick" && content.endsWith("event")) {
      return streamOf({
        async start(controller) {
          if (content === "late event") controller.enqueue(event("one"));
          await late.promise;
          controller.enqueue(Buffer.from('data: {"error":{"message":"no","code":500}}\n\n'));
          controller.close();
        },
      });
    }
    const choices = [{ index: 0, message: { role: "assistant", content: name }, finish_reason: "stop" }];
    return Response.json({ object: "chat.completion", choices });
  });

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-health-"));
  cleanup.defer(() => rm(folder, { recursive: true }));
  cleanup.defer(() => servers.stop());
  const variant = (provider: string, weight: number) => ({ provider, model: "m", weight });
  const alone = { variants: [variant("sick", 1)] };
  const split = { variants: [variant("sick", 3), variant("well", 1)] };
  const file = join(folder, "models.yaml");
  const known: Record<Model, object> = {
    poisoned: alone,
    compared: { ...alone, fallbacks: ["spare"] },
    spare: { variants: [variant("well", 1)] },
    full: alone,
    starting: alone,
    split,
    "split-again": split,
  };
  const providers = { sick: { base_url: server("sick") }, well: { base_url: server("well") } };
  await Bun.write(file, JSON.stringify({ providers, models: known }));
  const settings = { MODELS: "echo", MODELS_FILE: file };
  stack = await startStack({ settings });
  cleanup.defer(() => stack.stop());
}, 60_000);
afterAll(() => cleanup.disposeAsync());

const body = (model: Model, content: string, user?: string) => ({
  model,
  messages: [{ role: "user", content }],
  ...(user !== undefined && { user }),
});
/** The status, and the code of the error or else who has answered. */
async function ask(model: Model, content: string): Promise<string> {
  const response = await stack.call("POST", "/v1/chat/completions", body(model, content));
  const { error, choices } = (await response.json()) as {
    error?: { code: string };
    choices?: { message: { content: string } }[];
  };
  return `${response.status} ${error?.code ?? choices?.[0]?.message.content}`;
}
const breakerOf = async (model: Model): Promise<number> => {
  const text = await (await fetch(`${stack.url}/metrics`)).text();
  const state = new RegExp(`^millrace_llm_breaker_state\\{model="${model}",variant="sick",.*\\} (\\d)$`, "m");
  return Number(state.exec(text)?.[1] ?? Number.NaN);
};
const times = async (count: number, answer: () => Promise<string>): Promise<string[]> => {
  const answers = new Set<string>();
  for (let i = 0; i < count; i++) answers.add(await answer());
  return [...answers];
};

test("requests that a lone server answers with 500 close it to nobody", async () => {
  let i = 0;
  expect(await times(7, () => ask("poisoned", `500 body ${i++}`))).toEqual(["502 upstream_failed"]);
  expect(await ask("poisoned", "Hello")).toBe("200 sick");
  expect(await breakerOf("poisoned")).toBe(0);
});

test("nor do those that it answers with an error as an event, before the first token and after it", async () => {
  const stream = async (content: string): Promise<string> => {
    late = Promise.withResolvers();
    if (content === "event") late.resolve();
    const response = await stack.call("POST", "/v1/chat/completions", { ...body("poisoned", content), stream: true });
    late.resolve();
    return `${response.status} ${/"code":"(\w+)"/.exec(await response.text())?.[1]}`;
  };
  expect(await times(6, () => stream("event"))).toEqual(["502 upstream_failed"]);
  expect(await times(6, () => stream("late event"))).toEqual(["200 upstream_failed"]);
  expect(await breakerOf("poisoned")).toBe(0);
});

test("a server that answers with 500 what another one answers is left out after five calls", async () => {
  const before = asked.sick;
  expect(await times(6, () => ask("compared", "500"))).toEqual(["200 well"]);
  expect([asked.sick - before, await breakerOf("compared")]).toEqual([5, 2]);
});
