// Streams of models' answers on a real socket: when the head is sent, what is said in silence, how failures end, and
// what happens when the client stops reading or leaves. Answers are written by hand, with limits of milliseconds.
import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import type { LlmAnswer } from "../llm/llm.ts";
import { silentLog } from "../log.ts";
import { createHolds, type Holds } from "./holds.ts";
import { answerOf } from "./llm-caller-fixture.ts";
import {
  type LlmStreamLimits,
  llmStream,
  mediaEvents,
  type StreamForm,
  soundBytes,
  tokenEvents,
} from "./llm-stream.ts";
import type { KeyedCall } from "./route.ts";

const long: LlmStreamLimits = { headMs: 10_000, beatMs: 10_000, stallMs: 10_000 };
const encoder = new TextEncoder();
const event = (text: string): Uint8Array => encoder.encode(`data: {"t":"${text}"}\n\n`);
const done = encoder.encode("data: [DONE]\n\n");

interface Served extends AsyncDisposable {
  readonly url: string;
  readonly holds: Holds;
  /** The signal that the caller of the last request got. */
  readonly signal: () => AbortSignal | undefined;
}

function serve(
  calling: (signal: AbortSignal) => Promise<LlmAnswer>,
  limits: Partial<LlmStreamLimits> = {},
  form: StreamForm = tokenEvents,
): Served {
  const holds = createHolds(() => {});
  let signal: AbortSignal | undefined;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const call = { request, requestId: "r1", id: "", owner: { keyId: "alice" } } as KeyedCall;
      const hold = holds.open(call, "call");
      signal = hold.signal;
      try {
        return await llmStream(call, calling(hold.signal), hold, silentLog, { ...long, ...limits }, form);
      } catch (error) {
        hold.release();
        return new Response(String(error), { status: 502 });
      }
    },
  });
  return { url: server.url.href, holds, signal: () => signal, [Symbol.asyncDispose]: () => server.stop(true) };
}

/** A stream that a test writes, and what has become of it. */
function written() {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  const cancelled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start(given) {
      controller = given;
    },
    cancel: () => cancelled.resolve(),
  });
  return {
    answer: answerOf(body, { contentType: "text/event-stream" }),
    send: (...chunks: Uint8Array[]) => {
      for (const chunk of chunks) controller?.enqueue(chunk);
    },
    close: () => controller?.close(),
    fail: (error: Error) => controller?.error(error),
    cancelled: cancelled.promise,
  };
}

const until = (signal: AbortSignal | undefined) =>
  new Promise<void>((resolve) => {
    if (signal === undefined || signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

test("an answer passes byte for byte, and its place is given back", async () => {
  const upstream = written();
  await using server = serve(async () => upstream.answer);
  upstream.send(event("a"), event("ü"), done);
  upstream.close();
  const response = await fetch(server.url);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
    "x-request-id": "r1",
  });
  expect(await response.text()).toBe('data: {"t":"a"}\n\ndata: {"t":"ü"}\n\ndata: [DONE]\n\n');
  expect(server.holds.count("call")).toBe(0);
});

test("what fails before the head has a status of its own", async () => {
  await using failing = serve(() => Promise.reject(new AppError("upstream_failed", "x")));
  expect((await fetch(failing.url)).status).toBe(502);
  const refusal = answerOf('{"error":{"message":"no","code":400}}', { status: 400 });
  await using refusing = serve(async () => refusal);
  const response = await fetch(refusing.url);
  expect([response.status, response.headers.get("content-type")]).toEqual([400, "application/json"]);
  expect(await response.json()).toMatchObject({ error: { message: "no", code: "invalid_request" } });
});

test("a first token that is late: the head is sent with a beat, beats follow, then the answer", async () => {
  const upstream = written();
  const calling = Promise.withResolvers<LlmAnswer>();
  await using server = serve(() => calling.promise, { headMs: 5, beatMs: 5 });
  const response = await fetch(server.url);
  expect(response.status).toBe(200);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.split(": beat\n\n").length < 4) text += (await reader?.read())?.value ?? "";
  expect(text.replaceAll(": beat\n\n", "")).toBe("");
  calling.resolve(upstream.answer);
  upstream.send(event("a"));
  while (!text.includes('"a"')) text += (await reader?.read())?.value ?? "";
  // Between tokens too.
  const beats = text.split(": beat").length;
  while (text.split(": beat").length < beats + 2) text += (await reader?.read())?.value ?? "";
  upstream.send(done);
  upstream.close();
  for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) text += next.value;
  expect(text.replaceAll(": beat\n\n", "")).toBe('data: {"t":"a"}\n\ndata: [DONE]\n\n');
});

const ended = (error: object): string => `data: ${JSON.stringify({ error })}\n\ndata: [DONE]\n\n`;

test("what fails after the head is an event, then [DONE]: a call, a refusal, a cut, a fault of ours", async () => {
  const server_error = { type: "server_error", param: null };
  const refusal = answerOf('{"error":{"message":"no such tool","code":400}}', { status: 400 });
  const rows: readonly (readonly [LlmAnswer | AppError, string])[] = [
    [
      new AppError("upstream_timeout", "too slow"),
      ended({ message: "too slow", ...server_error, code: "upstream_timeout" }),
    ],
    [refusal, ended({ message: "no such tool", type: "invalid_request_error", param: null, code: "invalid_request" })],
    [
      cutAfter(event("a"), new AppError("upstream_failed", "broke off")),
      `data: {"t":"a"}\n\n${ended({ message: "broke off", ...server_error, code: "upstream_failed" })}`,
    ],
    [
      cutAfter(event("a"), new Error("secret at 10.0.0.7")),
      `data: {"t":"a"}\n\n${ended({ message: "Something failed on our side.", ...server_error, code: "internal" })}`,
    ],
  ];
  for (const [outcome, expected] of rows) {
    const calling = Promise.withResolvers<LlmAnswer>();
    await using server = serve(() => calling.promise, { headMs: 0 });
    const response = await fetch(server.url);
    if (outcome instanceof AppError) calling.reject(outcome);
    else calling.resolve(outcome);
    expect([response.status, (await response.text()).replaceAll(": beat\n\n", "")]).toEqual([200, expected]);
    expect(server.holds.count()).toBe(0);
  }
});

/** Resolves when another stream, in which nothing comes, has had beats for a while. */
async function someBeats(): Promise<void> {
  await using silent = serve(() => new Promise(() => {}), { headMs: 0, beatMs: 5 });
  const client = new AbortController();
  const reader = (await fetch(silent.url, { signal: client.signal })).body?.getReader();
  for (let heard = 0; heard < 5; heard++) await reader?.read();
  client.abort();
}

test("an event that breaks off in the middle stays broken: no beat in it, and the error is an event of its own", async () => {
  const upstream = written();
  await using server = serve(async () => upstream.answer, { beatMs: 5 }, mediaEvents);
  upstream.send(event("a"), encoder.encode('data: {"b64_json":"AAAA'));
  const reader = (await fetch(server.url)).body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("AAAA")) text += (await reader?.read())?.value ?? "";
  await someBeats(); // none of them is in the event
  upstream.fail(new AppError("upstream_failed", "broke off"));
  for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) text += next.value;
  const error = { message: "broke off", type: "server_error", param: null, code: "upstream_failed" };
  expect(text).toBe(`data: {"t":"a"}\n\ndata: {"b64_json":"AAAA\n\ndata: ${JSON.stringify({ error })}\n\n`);
});

test("sound has its own type and nothing between its bytes; what breaks off resets the connection", async () => {
  const upstream = written();
  const answer = { ...upstream.answer, contentType: "audio/wav" };
  const calling = Promise.withResolvers<LlmAnswer>();
  await using server = serve(() => calling.promise, { headMs: 0, beatMs: 5 }, soundBytes);
  const fetching = fetch(server.url);
  await someBeats(); // beyond headMs: no head goes out without a sound
  calling.resolve(answer);
  upstream.send(encoder.encode("RIFF"));
  const response = await fetching;
  expect(response.headers.get("content-type")).toBe("audio/wav");
  const reader = response.body?.getReader();
  expect((await reader?.read())?.value).toEqual(encoder.encode("RIFF"));
  upstream.fail(new AppError("upstream_failed", "broke off"));
  await expect(reader?.read()).rejects.toThrow();
  expect(server.holds.count()).toBe(0);
  await using refused = serve(() => Promise.reject(new AppError("model_overloaded", "full")), {}, soundBytes);
  expect((await fetch(refused.url)).status).toBe(502);
});

function cutAfter(chunk: Uint8Array, error: Error): LlmAnswer {
  let sent = false;
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    if (sent) return controller.error(error);
    sent = true;
    controller.enqueue(chunk);
  };
  return answerOf(new ReadableStream({ pull }, { highWaterMark: 0 }), { contentType: "text/event-stream" });
}

test("a client that leaves ends the call: before the first token, after the head, and between tokens", async () => {
  const never = new Promise<LlmAnswer>(() => {});
  const upstream = written();
  upstream.send(event("a"));
  for (const [limits, calling] of [
    [{}, never],
    [{ headMs: 0 }, never],
    [{}, Promise.resolve(upstream.answer)],
  ] as const) {
    const called = Promise.withResolvers<void>();
    await using server = serve(() => {
      called.resolve();
      return calling;
    }, limits);
    const client = new AbortController();
    const fetching = fetch(server.url, { signal: client.signal });
    fetching.catch(() => {});
    await called.promise;
    if (calling !== never || limits.headMs === 0) await (await fetching).body?.getReader().read();
    client.abort();
    await until(server.signal());
    expect(server.signal()?.aborted).toBe(true);
  }
  await upstream.cancelled;
});

test("a client that takes nothing is cut off, and the server is read no further than its socket holds", async () => {
  const cancelled = Promise.withResolvers<void>();
  const chunk = new Uint8Array(256 * 1024).fill(120);
  let sentBytes = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        sentBytes += chunk.length;
        controller.enqueue(chunk);
      },
      cancel: () => cancelled.resolve(),
    },
    { highWaterMark: 0 },
  );
  await using server = serve(async () => answerOf(body), { stallMs: 100, beatMs: 10 });
  const stalled = await Bun.connect({
    hostname: "127.0.0.1",
    port: Number(new URL(server.url).port),
    socket: { open: (socket) => void socket.pause(), data: () => {} },
  });
  stalled.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await cancelled.promise;
  expect(sentBytes).toBeLessThan(64 * 1024 * 1024);
  expect(server.holds.count()).toBe(0);
  stalled.end();
});

test("a gateway that stops says so in the stream", async () => {
  const upstream = written();
  upstream.send(event("a"));
  await using server = serve(async () => upstream.answer);
  const response = await fetch(server.url);
  server.holds.stop(0);
  const text = await response.text();
  expect(text).toStartWith('data: {"t":"a"}\n\ndata: {"error":{"message":"This gateway stops');
  expect(text).toEndWith('"code":"not_ready"}}\n\ndata: [DONE]\n\n');
  await upstream.cancelled;
});
