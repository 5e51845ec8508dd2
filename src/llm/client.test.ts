import { afterAll, beforeAll, expect, test } from "bun:test";
import { until } from "../../tests/stack.ts";
import { asAppError } from "../errors.ts";
import { type Simulator, startSimulator } from "../sim/simulator.ts";
import { openAiClient } from "./client.ts";
import type { LlmCaller, LlmRequest } from "./llm.ts";
import { type OneServer, openOneServer } from "./one-server.ts";

let simulator: Simulator;
let server: OneServer;
beforeAll(async () => {
  simulator = await startSimulator();
  server = await openOneServer(simulator.url);
});
afterAll(async () => {
  server.stop();
  await simulator.stop();
});

/** A client, and what it has asked its caller for. */
function open(signal: AbortSignal = new AbortController().signal) {
  const asked: LlmRequest[] = [];
  const caller: LlmCaller = {
    call(request) {
      asked.push(request);
      return server.caller.call(request);
    },
  };
  const identity = { keyId: "owner", requestId: "task" };
  return { asked, llm: openAiClient({ caller, models: server.models, identity, signal }) };
}

const messages = [{ role: "user" as const, content: "Tell me about rivers." }];

test("an answer, and who gave it", async () => {
  const { llm, asked } = open();
  const { data, response } = await llm.chat.completions.create({ model: "", messages }).withResponse();
  expect(data.choices[0]?.message.content).toBeString();
  expect(response.headers.get("x-millrace-model")).toBe("millrace-sim");
  expect(response.headers.get("x-millrace-provider-kind")).toBe("vllm");
  expect(asked[0]).toMatchObject({ endpoint: "chat/completions", requestId: "task", keyId: "owner", stream: false });
  await llm.chat.completions.create({ model: "millrace-sim", messages });
  expect(asked[1]?.requestId).toBe("task-2"); // two calls at once must have two names at the server
});

test("a stream says the same", async () => {
  const { llm } = open();
  const whole = await llm.chat.completions.create({ model: "", messages });
  let text = "";
  const options = { include_usage: true };
  for await (const chunk of await llm.chat.completions.create({
    model: "",
    messages,
    stream: true,
    stream_options: options,
  })) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  expect(text).toBe(whole.choices[0]?.message.content ?? "");
});

test("fields for a vLLM are kept out of the request", async () => {
  const { llm, asked } = open();
  const body = { model: "", messages, vllm: { max_tokens: 3 } };
  const answer = await llm.chat.completions.create(body);
  expect(answer.usage?.completion_tokens).toBe(3);
  expect(asked[0]?.body).toEqual({ kind: "json", value: { model: "", messages } });
});

test("errors are the client's own, with our codes", async () => {
  const { llm } = open();
  const call = (body: object) => llm.chat.completions.create({ model: "", messages, ...body });
  expect(await call({ model: "none" }).catch((error) => error)).toMatchObject({ status: 404, code: "unknown_model" });
  expect(await call({ max_tokens: 1e9 }).catch((error) => error)).toMatchObject({ status: 400 });
  const unknown = await llm.models.list().catch((error) => error);
  expect(unknown).toMatchObject({ status: 404, code: "route_not_found" });
  expect(asAppError(unknown)).toBeNull();
});

test("the end of the task ends the call, and so does who stops reading", async () => {
  const slow = await startSimulator({ profile: "8b-h100" });
  const far = await openOneServer(slow.url);
  try {
    const task = new AbortController();
    const identity = { keyId: "owner", requestId: "task" };
    const llm = openAiClient({ caller: far.caller, models: far.models, identity, signal: task.signal });
    const body = { model: "", messages, stream: true as const, vllm: { ignore_eos: true, max_tokens: 10_000 } };
    for await (const _ of await llm.chat.completions.create(body)) break;
    await gone(slow);
    const reading = (async () => {
      for await (const _ of await llm.chat.completions.create(body)) task.abort();
    })();
    await reading.catch(() => {});
    await gone(slow);
  } finally {
    far.stop();
    await slow.stop();
  }
});

/** Resolves when the simulator answers nobody any more. */
const gone = (server: Simulator) => until("no request", 5_000, async () => (server.inflight() === 0 ? true : null));
