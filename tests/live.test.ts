// Live calls over a real broker, between a gateway's caller and actors' servers, with the simulator behind them or a
// server of this file's making where the simulator is too well-behaved. The whole product is in live-stack.test.ts.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { asAppError } from "../src/errors.ts";
import type { LlmAnswer, LlmRequest } from "../src/llm/llm.ts";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { contentOf, entryOf, type LiveFixture, llmRequest, startLive, target } from "./live-calls.ts";
import { until } from "./stack.ts";

setDefaultTimeout(20_000);

let sim: Simulator;
let live: LiveFixture;
/** What a test has started; stopped after it. */
const servers: Bun.Server<undefined>[] = [];
beforeAll(async () => {
  sim = await startSimulator();
  live = await startLive();
});
afterEach(async () => {
  await live.reset();
  for (const server of servers.splice(0)) await server.stop(true);
});
afterAll(async () => {
  await live.stop();
  await sim.stop();
});

const encoder = new TextEncoder();
const event = (content: string): Uint8Array =>
  encoder.encode(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`);
const ending = encoder.encode(
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\ndata: [DONE]\n\n`,
);

/** A model server that answers with `answer`; its base URL. */
function serve(answer: (request: Request) => Response | Promise<Response>): string {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, fetch: answer });
  servers.push(server);
  return `${server.url.href}v1`;
}

interface Source {
  start?(controller: ReadableStreamDefaultController<Uint8Array>): void | Promise<void>;
  pull?(controller: ReadableStreamDefaultController<Uint8Array>): void | Promise<void>;
  cancel?(): void;
}

const streamOf = (source: Source): Response =>
  new Response(new ReadableStream(source, { highWaterMark: 0 }), { headers: { "content-type": "text/event-stream" } });

/** One event, and then silence until the client leaves. */
const begun = (onLeft: () => void = () => {}): Response =>
  streamOf({
    async pull(controller) {
      controller.enqueue(event("one"));
      await new Promise(() => {});
    },
    cancel: onLeft,
  });

const ask = (over: Partial<LlmRequest> = {}, value: object = {}): Promise<LlmAnswer> =>
  live.caller.call(llmRequest(over, value));
const codeOf = (call: Promise<unknown>): Promise<string | undefined> =>
  call.then(
    () => "no error",
    (error: unknown) => asAppError(error)?.code,
  );

test("a stream comes as the server sent it, counted as the server counts", async () => {
  await live.actor("a", `${sim.url}/v1`);
  const direct = await fetch(`${sim.url}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify({ ...(llmRequest().body as { value: object }).value, model: "millrace-sim" }),
  });
  const answer = await ask();
  expect([answer.status, answer.contentType]).toEqual([200, "text/event-stream"]);
  const text = await new Response(answer.body).text();
  expect(contentOf(text).length).toBeGreaterThan(5);
  expect(contentOf(text)).toBe(contentOf(await direct.text()));
  expect(text.endsWith("data: [DONE]\n\n")).toBeTrue();
  expect(text).not.toContain('"usage":{');
  const asked = await ask({ streamUsage: true });
  const [, prompt, completion] =
    /"usage":\{"prompt_tokens":(\d+).*"completion_tokens":(\d+)/.exec(await new Response(asked.body).text()) ?? [];
  const usage = { promptTokens: Number(prompt), completionTokens: Number(completion) };
  expect(await answer.ended).toMatchObject({ outcome: "finished", usage, error: null });
  expect(live.caller.inFlight().size).toBe(0);
});

test("a hundred at once, streamed and whole, each gets its own", async () => {
  await live.actor("a", `${sim.url}/v1`);
  await live.actor("b", `${sim.url}/v1`);
  const ids = await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const [streamed, whole] = await Promise.all([
        ask({ requestId: `s${i}` }),
        ask({ requestId: `w${i}`, stream: false }),
      ]);
      const text = await new Response(streamed.body).text();
      const { id } = (await new Response(whole.body).json()) as { id: string };
      return [...new Set([...text.matchAll(/"id":"([^"]+)"/g)].map((match) => match[1])), id];
    }),
  );
  expect(ids).toEqual(ids.map((_, i) => [`chatcmpl-s${i}`, `chatcmpl-w${i}`]));
  expect(live.caller.inFlight().size).toBe(0);
});

test("a body of 5 MiB arrives whole, and an answer of 5 MiB too", async () => {
  const base = serve(async (request) => {
    const { messages } = (await request.json()) as { messages: { content: string }[] };
    return Response.json({ echo: messages[0]?.content, usage: { prompt_tokens: 3, completion_tokens: 4 } });
  });
  await live.actor("a", base);
  const content = Array.from({ length: 5 * 64 }, (_, i) => String.fromCharCode(97 + (i % 26)).repeat(16 * 1024)).join(
    "",
  );
  const answer = await ask({ stream: false }, { messages: [{ role: "user", content }] });
  const { echo } = (await new Response(answer.body).json()) as { echo: string };
  expect(echo === content).toBeTrue();
  expect((await answer.ended).usage).toMatchObject({ promptTokens: 3, completionTokens: 4 });
});

test("a large event crosses in pieces and comes out whole", async () => {
  const large = event("x".repeat(900_000));
  const base = serve(
    () => new Response(Buffer.concat([large, ending]), { headers: { "content-type": "text/event-stream" } }),
  );
  await live.actor("a", base);
  const answer = await ask();
  expect(contentOf(await new Response(answer.body).text()).length).toBe(900_000);
});

test("what fails before the first content is tried elsewhere, and nobody sees it", async () => {
  const asked: string[] = [];
  const bad = serve(() => {
    asked.push("bad");
    return new Response("boom", { status: 500 });
  });
  await live.actor("bad", bad);
  live.models.targets = [target({ perGpu: true })];
  const [first] = await Promise.all([codeOf(ask())]);
  expect([first, asked.length]).toEqual(["upstream_failed", 1]);
  await live.actor("good", `${sim.url}/v1`);
  // Wherever the prefix falls: the bad one is asked at most once a call, and the answer is the good one's.
  for (let i = 0; i < 10; i++) {
    asked.length = 0;
    const answer = await ask({ affinity: `prefix ${i}` });
    await new Response(answer.body).text();
    expect([(await answer.ended).outcome, asked.length <= 1]).toEqual(["finished", true]);
  }
  const outcomes = live.models.reports.map(({ actorId, outcome }) => `${actorId} ${outcome}`);
  expect(outcomes.filter((one) => one === "good ok").length).toBe(10);
  expect(new Set(outcomes)).toEqual(new Set(["bad failed", "good ok"]));
});

test("a client's own error is passed on once, with the server's words", async () => {
  let asked = 0;
  const error = { error: { message: "too long", type: "BadRequestError", param: null, code: 400 } };
  const base = serve(() => {
    asked++;
    return Response.json(error, { status: 400 });
  });
  await live.actor("a", base);
  await live.actor("b", base);
  const answer = await ask();
  expect([answer.status, await new Response(answer.body).json(), asked]).toEqual([400, error, 1]);
  expect((await answer.ended).outcome).toBe("refused");
});

test("where every server is full the client is told when to come back", async () => {
  const base = serve(() => new Response("{}", { status: 429, headers: { "retry-after": "7" } }));
  await live.actor("a", base);
  const error = asAppError(await ask().catch((thrown: unknown) => thrown));
  expect([error?.code, error?.retryAfterS]).toEqual(["model_overloaded", 7]);
});

test("an actor without room is passed over; where all have none, the model is overloaded", async () => {
  const base = serve(() => begun());
  await live.actor("small", base, { callsMax: 1 });
  const first = await ask();
  expect(await codeOf(ask())).toBe("model_overloaded");
  await live.actor("other", base);
  const second = await ask();
  expect(second.status).toBe(200);
  await Promise.all([first.body.cancel(), second.body.cancel()]);
});

test.each(["before", "after"])("a client that leaves %s the first token closes the server's socket", async (when) => {
  const left = Promise.withResolvers<number>();
  const arrived = Promise.withResolvers<void>();
  const base = serve((request) => {
    request.signal.addEventListener("abort", () => left.resolve(performance.now()));
    arrived.resolve();
    return when === "after" ? begun() : new Promise<Response>(() => {});
  });
  await live.actor("a", base);
  const leaving = new AbortController();
  const call = ask({ signal: leaving.signal });
  call.catch(() => {});
  await arrived.promise;
  const answer = when === "after" ? await call : null;
  const leftAtMs = performance.now();
  leaving.abort(new Error("left"));
  expect((await left.promise) - leftAtMs).toBeLessThan(100);
  if (answer) {
    const end = await answer.ended;
    expect([end.outcome, end.usage.completionTokens, end.usage.promptTokens > 0]).toEqual(["cancelled", 1, true]);
  } else expect(call).rejects.toThrow("left");
  expect(live.caller.inFlight().size).toBe(0);
});

test("a reader that takes nothing holds the server back", async () => {
  const wrote = { bytes: 0 };
  const filler = event("x".repeat(8_000));
  const base = serve(() =>
    streamOf({
      pull(controller) {
        controller.enqueue(filler);
        wrote.bytes += filler.length;
      },
    }),
  );
  await live.actor("a", base);
  const answer = await ask();
  const reader = answer.body.getReader();
  await reader.read();
  // What lies between is what the sockets take; it comes to rest far below what an unbounded buffer would swallow.
  let last = -1;
  await until("a standstill", 10_000, async () => {
    const still = wrote.bytes === last;
    last = wrote.bytes;
    return still ? true : null;
  });
  expect(wrote.bytes).toBeLessThan(48 * 1024 * 1024);
  const before = wrote.bytes;
  for (let read = 0; read < before + 1_000_000; )
    read += (await reader.read()).value?.length ?? Number.POSITIVE_INFINITY;
  expect(wrote.bytes).toBeGreaterThan(before);
  await reader.cancel();
});

test("an actor that is gone: before the first token another one answers, after it the answer fails", async () => {
  const arrived = Promise.withResolvers<void>();
  const silent = serve(() => {
    arrived.resolve();
    return new Promise<Response>(() => {});
  });
  await live.actor("a", silent);
  const call = ask();
  await arrived.promise;
  await live.actor(
    "b",
    serve(() => begun()),
  );
  live.actors.shift();
  live.caller.actorGone("a");
  const answer = await call;
  const reader = answer.body.getReader();
  expect(contentOf(Buffer.from((await reader.read()).value ?? []).toString())).toBe("one");
  live.caller.actorGone("b");
  expect(await codeOf(reader.read())).toBe("upstream_failed");
  expect(await answer.ended).toMatchObject({ outcome: "failed", usage: { completionTokens: 1 } });
});

test("an actor that nobody hears any more is known at once, and another one answers", async () => {
  live.actors.push(entryOf("ghost"));
  expect(await codeOf(ask())).toBe("model_unavailable");
  await live.actor("a", `${sim.url}/v1`);
  for (let i = 0; i < 5; i++) {
    const answer = await ask({ affinity: `${i}` });
    await answer.body.cancel();
    expect((await answer.ended).outcome).toBe("cancelled");
  }
});

test.each([
  ["beats", 20, 200],
  ["is silent", 60_000, "model_unavailable"],
] as const)("an actor that %s while its server thinks", async (_, beatMs, outcome) => {
  const base = serve(async (request) => {
    const timer = Promise.withResolvers<void>();
    const thinking = setTimeout(timer.resolve, 400);
    request.signal.addEventListener("abort", () => clearTimeout(thinking));
    await timer.promise;
    return begun();
  });
  await live.actor("a", base, { beatMs });
  const gateway = await live.gateway({ silenceMs: 150 });
  const leaving = new AbortController();
  const call = gateway.caller.call(llmRequest({ signal: leaving.signal }));
  const seen = await call.then(
    (answer) => answer.status,
    (error: unknown) => asAppError(error)?.code,
  );
  expect(seen).toBe(outcome);
  leaving.abort();
  gateway.caller.stop();
  await gateway.vanish();
});

test("a gateway that is gone: its calls are cancelled at the server", async () => {
  const left = Promise.withResolvers<void>();
  const base = serve((request) => {
    request.signal.addEventListener("abort", () => left.resolve());
    return streamOf({
      pull: (controller) => controller.enqueue(event("x")),
    });
  });
  await live.actor("a", base);
  const other = await live.gateway();
  const answer = await other.caller.call(llmRequest());
  await answer.body.getReader().read();
  await other.vanish();
  await left.promise;
});

test("a broker that dies fails the calls under way, and the next ones go on", async () => {
  await live.actor(
    "a",
    serve(() => begun()),
  );
  const answer = await ask();
  const reader = answer.body.getReader();
  await reader.read();
  const failed = codeOf(reader.read());
  await live.broker.kill();
  expect(await failed).toBe("upstream_failed");
  expect(await codeOf(ask())).toBe("model_unavailable");
  await live.broker.restart();
  const again = await ask();
  expect(again.status).toBe(200);
  await again.body.cancel();
});

test("an actor that drains lets its calls end and takes no new ones", async () => {
  const goOn = Promise.withResolvers<void>();
  const base = serve(() =>
    streamOf({
      async start(controller) {
        controller.enqueue(event("one"));
        await goOn.promise;
        controller.enqueue(ending);
        controller.close();
      },
    }),
  );
  const draining = await live.actor("a", base);
  const answer = await ask();
  const stopped = draining.stop(10_000);
  expect(await codeOf(ask())).toBe("model_unavailable");
  goOn.resolve();
  expect(contentOf(await new Response(answer.body).text())).toBe("one");
  await stopped;
  expect(draining.size).toBe(0);
});

test("limits: between tokens, to the first token, to the connection", async () => {
  const slow = { betweenTokensMs: 60, firstTokenMs: 60, connectMs: 60 };
  await live.actor(
    "a",
    serve(() => begun()),
    { timeouts: slow },
  );
  const answer = await ask();
  const reader = answer.body.getReader();
  await reader.read();
  expect(await codeOf(reader.read())).toBe("upstream_timeout");
  await live.reset();
  live.models.targets = [target({ perGpu: true })];
  await live.actor(
    "b",
    serve(() => new Promise(() => {})),
    { timeouts: slow },
  );
  expect(await codeOf(ask())).toBe("upstream_timeout");
  await live.reset();
  live.models.targets = [target({ perGpu: true })];
  await live.actor("c", "http://127.0.0.1:1/v1", { timeouts: slow });
  expect(await codeOf(ask())).toBe("upstream_failed");
});

test("a model's own limit of calls is kept", async () => {
  live.models.inFlightMax = 1;
  await live.actor(
    "a",
    serve(() => begun()),
  );
  const answer = await ask();
  expect(await codeOf(ask())).toBe("model_overloaded");
  await answer.body.cancel();
  const next = await ask();
  await next.body.cancel();
});
