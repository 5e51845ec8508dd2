import { afterAll, beforeAll, expect, test } from "bun:test";
import { until } from "../../tests/stack.ts";
import { AppError, asAppError } from "../errors.ts";
import { failureOf } from "../registry/failure.ts";
import { type Simulator, startSimulator } from "../sim/simulator.ts";
import { openAiClient } from "./client.ts";
import type { LlmCaller, LlmRequest } from "./llm.ts";
import type { FetchMedia } from "./media.ts";
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
  return { asked, llm: openAiClient({ caller, models: server.models, fetchMedia, identity, signal }) };
}

/** A WebP of 8 x 6 pixels. */
const picture = Buffer.from("UklGRioAAABXRUJQVlA4TB4AAAAvB0ABALmM6H/sIqL/ASEB4ZP/7yQLhmQAYwKQWjY=", "base64");
const fetchMedia: FetchMedia = (url) => {
  if (url.endsWith("/picture")) return Promise.resolve({ bytes: picture, contentType: "", url });
  const code = url.endsWith("/slow") ? "fetch_timeout" : "fetch_blocked";
  return Promise.reject(new AppError(code, "it could not be fetched"));
};

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

test("no URL reaches a server: pictures go as data, in what a vLLM gets too", async () => {
  const { llm, asked } = open();
  const showing = (url: string) => [
    { role: "user" as const, content: [{ type: "image_url" as const, image_url: { url } }] },
  ];
  const withUrl = showing("https://example.com/picture");
  await llm.chat.completions.create({ model: "", messages: withUrl, vllm: { messages: withUrl } } as never);
  const data = showing(`data:image/webp;base64,${picture.toString("base64")}`);
  expect(asked[0]?.body).toMatchObject({ value: { messages: data } });
  expect(asked[0]?.vllm).toEqual({ messages: data });
  const refused = (url: string) =>
    llm.chat.completions
      .create({ model: "", messages: showing(url) })
      .catch((error) => failureOf(error, "infer", false));
  expect(await refused("http://10.0.0.1/x")).toMatchObject({ failure: { code: "invalid_input", retryable: false } });
  expect(await refused("http://10.0.0.1/slow")).toMatchObject({ failure: { code: "fetch_timeout", retryable: true } });
});

test("the end of the task ends the call, and so does who stops reading", async () => {
  const slow = await startSimulator({ profile: "8b-h100" });
  const far = await openOneServer(slow.url);
  try {
    const task = new AbortController();
    const identity = { keyId: "owner", requestId: "task" };
    const llm = openAiClient({ caller: far.caller, models: far.models, fetchMedia, identity, signal: task.signal });
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
