// Model servers that mean harm, or are broken in ways that no simulator is: what they send must harm nobody but the call
// that they answer, and tell no client what is ours. Over a real broker, as live.test.ts.
import { expect, setDefaultTimeout, test } from "bun:test";
import { asAppError } from "../src/errors.ts";
import { textOf } from "../src/llm/answer-body.ts";
import { meter } from "../src/llm/metered.ts";
import type { UsageEntry } from "../src/usage/ledger.ts";
import { contentOf, llmRequest } from "./live-calls.ts";
import { liveSuite } from "./live-suite.ts";
import { until } from "./stack.ts";

setDefaultTimeout(20_000);

const live = liveSuite();
const { serve, ask } = live;

const choice = (content: string, finish_reason: string | null = null): object => ({
  choices: [{ index: 0, delta: { content }, finish_reason }],
});
const streamed = (...events: readonly object[]): Response =>
  new Response([...events.map((one) => JSON.stringify(one)), "[DONE]"].map((data) => `data: ${data}\n\n`).join(""), {
    headers: { "content-type": "text/event-stream" },
  });
const chatAnswer = { choices: [{ index: 0, message: { role: "assistant", content: "hi" }, finish_reason: "stop" }] };

test("numbers that no call can have count nothing, and break neither this answer nor another's", async () => {
  const usage = { prompt_tokens: 9e15, completion_tokens: 9e15, total_tokens: 1 };
  const silly = serve(() => streamed({ ...choice("a"), usage }, choice("", "stop"), { choices: [], usage }));
  await live.actor("a", silly);
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask()));
  for (const answer of answers) {
    expect(contentOf(await textOf(answer.body))).toBe("a");
    const { usage: counted } = await answer.ended;
    expect([counted.completionTokens, counted.promptTokens < 100]).toEqual([1, true]);
  }
});

test("a whole answer may take longer than a stream's first token: its server is silent until it is done", async () => {
  const base = serve(async () => {
    const beganMs = performance.now();
    await until("the limit has passed", 5_000, async () => (performance.now() - beganMs > 200 ? true : null));
    return Response.json(chatAnswer);
  });
  await live.actor("a", base, { timeouts: { firstTokenMs: 60 } });
  const answer = await ask({ stream: false });
  expect([answer.status, JSON.parse(await textOf(answer.body))]).toEqual([200, chatAnswer]);
});

test("a whole answer that stops in the middle is given up", async () => {
  const base = serve(
    () =>
      new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(Buffer.from(JSON.stringify(chatAnswer).slice(0, 20))),
        }),
        { headers: { "content-type": "application/json" } },
      ),
  );
  await live.actor("a", base, { timeouts: { betweenTokensMs: 60 } });
  const failed = ask({ stream: false });
  expect(await failed.catch((error: unknown) => asAppError(error)?.code)).toBe("upstream_timeout");
});

test("a call that its client gives up costs its prompt: a server was at it", async () => {
  const asked = Promise.withResolvers<void>();
  await live.actor(
    "a",
    serve(() => {
      asked.resolve();
      return new Promise(() => {});
    }),
  );
  const recorded: UsageEntry[] = [];
  const settled: number[] = [];
  const reservation = { quota: null, settle: (tokens: number) => void settled.push(tokens) };
  const ledger = { reserve: () => reservation, record: (entry: UsageEntry) => void recorded.push(entry) };
  const leaving = new AbortController();
  const messages = [{ role: "user", content: "x".repeat(4_000) }];
  const call = meter(live.caller, ledger).call(llmRequest({ stream: false, signal: leaving.signal }, { messages }));
  await asked.promise;
  leaving.abort();
  await expect(call).rejects.toBeDefined();
  expect(recorded).toMatchObject([{ keyId: "k", model: "m", provider: "p", promptTokens: 1_001, completionTokens: 0 }]);
  expect(settled).toEqual([1_001]);
});

test("a refusal that says our key back does not tell it to the client", async () => {
  const apiKey = "sk-of-the-operator";
  const base = serve((request) => {
    const message = `not good: ${request.headers.get("authorization")}`;
    return Response.json({ error: { message } }, { status: 400 });
  });
  await live.actor("a", base, { apiKey });
  const answer = await ask();
  expect(JSON.parse(await textOf(answer.body))).toEqual({ error: { message: "not good: Bearer (secret)" } });
});

test("a redirect is not followed: prompt and key go to no other server", async () => {
  let asked = 0;
  const other = serve(() => {
    asked++;
    return streamed(choice("a", "stop"));
  });
  const sending = serve(() => new Response(null, { status: 307, headers: { location: `${other}/chat/completions` } }));
  await live.actor("a", sending, { apiKey: "a key of ours" });
  const error = asAppError(await ask().catch((thrown: unknown) => thrown));
  expect([error?.code, error?.message.includes(other), asked]).toEqual(["upstream_failed", false, 0]);
});
