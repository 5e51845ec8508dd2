// What calls show of their servers, through the whole service: which failures close a server to others and which do
// not, and how calls fall to the variants of a model. The model servers answer as the words of the call tell them to.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { event, modelServers, streamOf } from "./model-servers.ts";
import { type SecondGateway, startSecondGateway } from "./second-gateway.ts";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(30_000);

let stack: Stack;
let second: SecondGateway;
const servers = modelServers();
const cleanup = new AsyncDisposableStack();
/** Requests that each server had, by its name. */
const asked = { sick: 0, well: 0 };
/** Resolved when an error may come. */
let late = Promise.withResolvers<void>();
type Model = "poisoned" | "compared" | "spare" | "full" | "starting" | "split";

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
  const file = join(folder, "models.yaml");
  const known: Record<Model, object> = {
    poisoned: alone,
    compared: { ...alone, fallbacks: ["spare"] },
    spare: { variants: [variant("well", 1)] },
    full: alone,
    starting: alone,
    split: { variants: [variant("sick", 3), variant("well", 1)] },
  };
  const providers = { sick: { base_url: server("sick") }, well: { base_url: server("well") } };
  await Bun.write(file, JSON.stringify({ providers, models: known }));
  const settings = { MODELS: "echo", MODELS_FILE: file };
  stack = await startStack({ settings });
  cleanup.defer(() => stack.stop());
  second = await startSecondGateway(stack, settings);
  cleanup.defer(() => second.stop());
}, 60_000);
afterAll(() => cleanup.disposeAsync());

interface Answer {
  readonly error?: { readonly code: string };
  readonly choices?: readonly { readonly message: { readonly content: string } }[];
}
const body = (model: Model, content: string, user?: string) => ({
  model,
  messages: [{ role: "user", content }],
  ...(user !== undefined && { user }),
});
/** The status, and the code of the error or else who has answered. */
async function ask(model: Model, content: string): Promise<string> {
  const response = await stack.call("POST", "/v1/chat/completions", body(model, content));
  const { error, choices } = (await response.json()) as Answer;
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
  expect(await times(6, () => ask("poisoned", `500 body ${i++}`))).toEqual(["502 upstream_failed"]);
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

test("a full server is asked again and again, and closed to nobody; one that starts is left out after five calls", async () => {
  expect(await times(8, () => ask("full", "429"))).toEqual(["429 model_overloaded"]);
  expect(await times(8, () => ask("full", "503 the queue is full"))).toEqual(["429 model_overloaded"]);
  expect([await ask("full", "Hello"), await breakerOf("full")]).toEqual(["200 sick", 0]);
  expect(await times(5, () => ask("starting", "503 loading"))).toEqual(["503 model_unavailable"]);
  const before = asked.sick;
  expect(await ask("starting", "Hello")).toBe("503 model_unavailable");
  expect([asked.sick - before, await breakerOf("starting")]).toEqual([0, 2]);
});

test("users fall to variants by their weights, and each stays with its own, on another gateway too", async () => {
  const users = Array.from({ length: 200 }, (_, i) => `user-${i}`);
  const fall = (call: Stack["call"]): Promise<string[]> =>
    Promise.all(
      users.map(async (user) => {
        const response = await call("POST", "/v1/chat/completions", body("split", "Hello", user));
        return ((await response.json()) as Answer).choices?.[0]?.message.content ?? String(response.status);
      }),
    );
  const first = await fall(stack.call);
  expect(new Set(first)).toEqual(new Set(["sick", "well"]));
  // Weights of 3 and 1: 150 of 200, with a deviation of 6.
  expect(first.filter((name) => name === "sick").length).toBeWithin(130, 171);
  expect(await fall(second.call)).toEqual(first);
});
