// Live calls over a real broker, between a gateway's caller and actors' servers, with the simulator behind them or a
// server of this file's making where the simulator is too well-behaved. The whole product is in live-stack.test.ts.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { asAppError } from "../src/errors.ts";
import { textOf } from "../src/llm/answer-body.ts";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { codeOf } from "./code-of.ts";
import { contentOf, llmRequest, target } from "./live-calls.ts";
import { liveSuite } from "./live-suite.ts";
import { begun, ending, event, streamOf } from "./model-servers.ts";
import { until } from "./stack.ts";

setDefaultTimeout(20_000);

let sim: Simulator;
beforeAll(async () => {
  sim = await startSimulator();
});
afterAll(() => sim.stop());
const live = liveSuite();
const { serve, ask } = live;

test("a stream comes as the server sent it, counted as the server counts", async () => {
  await live.actor("a", `${sim.url}/v1`);
  const direct = await fetch(`${sim.url}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify({ ...(llmRequest().body as { value: object }).value, model: "millrace-sim" }),
  });
  const answer = await ask();
  expect([answer.status, answer.contentType]).toEqual([200, "text/event-stream"]);
  const text = await textOf(answer.body);
  expect(contentOf(text).length).toBeGreaterThan(5);
  expect(contentOf(text)).toBe(contentOf(await direct.text()));
  expect(text.endsWith("data: [DONE]\n\n")).toBeTrue();
  expect(text).not.toContain('"usage":{');
  const asked = await ask({ streamUsage: true });
  const [, prompt, completion] =
    /"usage":\{"prompt_tokens":(\d+).*"completion_tokens":(\d+)/.exec(await textOf(asked.body)) ?? [];
  const usage = { promptTokens: Number(prompt), completionTokens: Number(completion) };
  expect(await answer.ended).toMatchObject({ outcome: "finished", usage, error: null });
  expect(live.caller.inFlight().size).toBe(0);
});

test("a client that leaves with the last event, as SDKs do, has given nothing up: what the server counted is counted", async () => {
  const actor = await live.actor("a", `${sim.url}/v1`);
  const answer = await ask();
  const reader = answer.body.getReader();
  for (let text = ""; !text.endsWith("data: [DONE]\n\n"); ) {
    text += Buffer.from((await reader.read()).value ?? []).toString();
  }
  await until("its end", 5_000, async () => (actor.size === 0 ? true : null));
  const next = await ask(); // its first frame comes behind all that the actor has said before
  await reader.cancel();
  const { outcome, usage } = await answer.ended;
  await textOf(next.body);
  const { promptTokens, completionTokens } = (await next.ended).usage;
  expect({ outcome, ...usage }).toMatchObject({ outcome: "finished", promptTokens, completionTokens });
  const unread = await ask();
  await until("its end", 5_000, async () => (actor.size === 0 ? true : null));
  await unread.body.cancel();
  expect((await unread.ended).outcome).toBe("cancelled");
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
      const text = await textOf(streamed.body);
      const { id } = JSON.parse(await textOf(whole.body)) as { id: string };
      return [...new Set([...text.matchAll(/"id":"([^"]+)"/g)].map((match) => match[1])), id];
    }),
  );
  const named = ids.map((ofCall) => ofCall.map((id) => id?.replace(/-[0-9a-f]{8}$/, "")));
  expect(named).toEqual(ids.map((_, i) => [`chatcmpl-s${i}`, `chatcmpl-w${i}`]));
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
  const { echo } = JSON.parse(await textOf(answer.body)) as { echo: string };
  expect(echo === content).toBeTrue();
  expect((await answer.ended).usage).toMatchObject({ promptTokens: 3, completionTokens: 4 });
});

test("large events cross in pieces and come out whole, also those of many calls at once", async () => {
  const large = event("x".repeat(900_000));
  const headers = { "content-type": "text/event-stream" };
  await live.actor(
    "a",
    serve(() => new Response(Buffer.concat([large, ending]), { headers })),
  );
  const answers = await Promise.all(Array.from({ length: 8 }, () => ask()));
  const texts = await Promise.all(answers.map((answer) => textOf(answer.body)));
  expect(texts.map((text) => contentOf(text).length)).toEqual(answers.map(() => 900_000));
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
    await textOf(answer.body);
    expect([(await answer.ended).outcome, asked.length <= 1]).toEqual(["finished", true]);
  }
  const outcomes = live.models.reports.map(({ actorId, outcome }) => `${actorId} ${outcome}`);
  expect(outcomes.filter((one) => one === "good ok").length).toBe(10);
  // While it was alone, the request may have been what broke it.
  expect(new Set(outcomes)).toEqual(new Set(["bad unclear", "bad failed", "good ok"]));
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
  expect([answer.status, JSON.parse(await textOf(answer.body)), asked]).toEqual([400, error, 1]);
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
  } else await expect(call).rejects.toThrow("left");
  // Nothing against the server, or clients who leave would open its breaker.
  expect(live.models.reports.map(({ outcome }) => outcome)).toEqual(when === "after" ? ["ok"] : []);
  expect(live.caller.inFlight().size).toBe(0);
});

test("a reader that takes nothing holds the actor back, and the server behind it", async () => {
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
  const sent = { bytes: 0 };
  const ear = await live.broker.connect();
  const hearing = ear.subscribe("_INBOX.*.frames", (message) => {
    sent.bytes += message.data.length;
  });
  await ear.flush(5_000);
  const answer = await ask();
  const reader = answer.body.getReader();
  await reader.read();
  // What lies between server and actor is what their sockets take.
  let last = -1;
  await until("a standstill", 10_000, async () => {
    await ear.flush(5_000);
    const still = wrote.bytes === last && sent.bytes > 0;
    last = wrote.bytes;
    return still ? true : null;
  });
  expect(sent.bytes).toBeLessThan(3 * 32 * 1024);
  expect(wrote.bytes).toBeLessThan(48 * 1024 * 1024);
  const before = wrote.bytes;
  for (let read = 0; read < before + 1_000_000; )
    read += (await reader.read()).value?.length ?? Number.POSITIVE_INFINITY;
  expect(wrote.bytes).toBeGreaterThan(before);
  await reader.cancel();
  hearing.unsubscribe();
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
  expect(await codeOf(ask())).toBe("model_unavailable");
});

test("a model's own limit of calls is kept", async () => {
  live.models.inFlightMax = 1;
  await live.actor(
    "a",
    serve(() => begun()),
  );
  const answer = await ask();
  const refused = asAppError(await ask().catch((thrown: unknown) => thrown));
  expect([refused?.code, refused?.retryAfterS]).toEqual(["model_overloaded", 1]);
  await answer.body.cancel();
  const next = await ask();
  await next.body.cancel();
});

test("a key that has every place of a full server leaves the next one to a key that found none", async () => {
  const silent = serve(() => begun());
  await live.actor("a", silent, { callsMax: 4 });
  const busy = await Promise.all(Array.from({ length: 4 }, () => ask({ keyId: "busy" })));
  expect(await codeOf(ask({ keyId: "other" }))).toBe("model_overloaded");
  await busy[0]?.body.cancel();
  const refused = asAppError(await ask({ keyId: "busy" }).catch((thrown: unknown) => thrown));
  expect([refused?.code, refused?.retryAfterS, refused?.message]).toEqual([
    "model_overloaded",
    1,
    "This key has its share of the model, and others wait for room.",
  ]);
  const other = await ask({ keyId: "other" });
  for (const answer of [...busy.slice(1), other]) await answer.body.cancel();
  const again = await ask({ keyId: "busy" });
  await again.body.cancel();
});
