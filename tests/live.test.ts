import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { contentOf, type LiveFixture, llmRequest, startLive } from "./live-calls.ts";

setDefaultTimeout(20_000);

let sim: Simulator;
let live: LiveFixture;
beforeAll(async () => {
  sim = await startSimulator({ port: 0 });
  live = await startLive();
  await live.actor("a", `${sim.url}/v1`);
});
afterAll(async () => {
  await live.stop();
  await sim.stop();
});

test("a stream comes as the server sent it, with its usage", async () => {
  const answer = await live.caller.call(llmRequest());
  expect([answer.status, answer.contentType]).toEqual([200, "text/event-stream"]);
  const text = await new Response(answer.body).text();
  expect(contentOf(text)).toBe("Your question was: Tell me about rivers.");
  expect(text.endsWith("data: [DONE]\n\n")).toBeTrue();
  const usage = { promptTokens: 15, completionTokens: 12, cachedTokens: 0 };
  expect(await answer.ended).toMatchObject({ outcome: "finished", usage, error: null });
  expect(live.caller.inFlight().size).toBe(0);
});

test("another answer comes whole", async () => {
  const answer = await live.caller.call(llmRequest({ stream: false }));
  const { choices } = (await new Response(answer.body).json()) as { choices: { message: { content: string } }[] };
  expect(choices[0]?.message.content).toBe("Your question was: Tell me about rivers.");
  expect((await answer.ended).usage.completionTokens).toBe(12);
});
