// What becomes of live calls when an actor, a gateway or the broker dies, stops or drains: over a real broker, in this
// process. Real kills of processes are in live-stack.test.ts.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { asAppError } from "../src/errors.ts";
import { textOf } from "../src/llm/answer-body.ts";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { codeOf } from "./code-of.ts";
import { contentOf, entryOf, llmRequest } from "./live-calls.ts";
import { liveSuite } from "./live-suite.ts";
import { begun, ending, event, streamOf } from "./model-servers.ts";

setDefaultTimeout(20_000);

let sim: Simulator;
beforeAll(async () => {
  sim = await startSimulator();
});
afterAll(() => sim.stop());
const live = liveSuite();
const { serve, ask } = live;

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
  expect(contentOf(await textOf(answer.body))).toBe("one");
  await stopped;
  expect(draining.size).toBe(0);
});
