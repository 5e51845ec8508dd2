import { expect, test } from "bun:test";
import { llmRequest, target } from "../../tests/live-calls.ts";
import { AppError } from "../errors.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import type { Ledger, UsageEntry } from "../usage/ledger.ts";
import type { LlmAnswer, LlmCaller, LlmEnd } from "./llm.ts";
import { estimateTokens, meter } from "./metered.ts";

const quota = { limit: 100, remaining: 40, resetS: 60 };

/** A ledger that writes down what it is told. `reserves`: whether the key has a quota. */
function ledgerOf(reserves: "at once" | "later" | null) {
  const recorded: UsageEntry[] = [];
  const settled: number[] = [];
  const reservation = { quota, settle: (tokens: number) => void settled.push(tokens) };
  const ledger: Ledger = {
    reserve: () => (reserves === null ? null : reserves === "later" ? Promise.resolve(reservation) : reservation),
    record: (entry) => void recorded.push(entry),
  };
  return { ledger, recorded, settled };
}

const usage = { promptTokens: 10, completionTokens: 5, cachedTokens: 2 };
const end = (over: Partial<LlmEnd> = {}): LlmEnd => ({
  outcome: "finished",
  usage,
  error: null,
  firstTokenMs: 1,
  ...over,
});
const callerOf = (ended: Promise<LlmEnd>): LlmCaller => ({
  call: async (): Promise<LlmAnswer> => ({
    target: target({ model: "large", provider: "other" }),
    status: 200,
    contentType: "application/json",
    body: { getReader: () => new Blob(["{}"]).stream().getReader(), cancel: async () => {} },
    ended,
  }),
});

test.each(["at once", "later"] as const)(
  "a call is recorded and settled when it has ended, once (%s)",
  async (when) => {
    const { ledger, recorded, settled } = ledgerOf(when);
    const { promise, resolve } = Promise.withResolvers<LlmEnd>();
    const answer = await meter(callerOf(promise), ledger).call(llmRequest({ keyId: "alice" }));
    expect(answer.quota).toEqual(quota);
    expect([recorded, settled]).toEqual([[], []]);
    resolve(end({ outcome: "cancelled" }));
    await answer.ended;
    expect(recorded).toEqual([{ keyId: "alice", model: "large", provider: "other", ...usage }]);
    expect(settled).toEqual([15]);
  },
);

test("a server's nonsense is not counted", async () => {
  const { ledger, recorded, settled } = ledgerOf("at once");
  const usage = { promptTokens: Number.NaN, completionTokens: 9e15, cachedTokens: -1 };
  await (await meter(callerOf(Promise.resolve(end({ usage }))), ledger).call(llmRequest())).ended;
  expect(recorded).toMatchObject([{ promptTokens: 0, completionTokens: 100_000_000, cachedTokens: 0 }]);
  expect(settled).toEqual([100_000_000]);
});

test("without a quota nothing is reserved, and no quota is told", async () => {
  const { ledger, recorded } = ledgerOf(null);
  const answer = await meter(callerOf(Promise.resolve(end())), ledger).call(llmRequest());
  expect(answer.quota).toBeUndefined();
  await answer.ended;
  expect(recorded).toHaveLength(1);
});

test("a call without an answer costs nothing, and a refused one is not made", async () => {
  const { ledger, recorded, settled } = ledgerOf("at once");
  let calls = 0;
  const caller: LlmCaller = {
    async call() {
      calls++;
      throw new AppError("upstream_failed", "no");
    },
  };
  const failed = meter(caller, ledger).call(llmRequest());
  await expect(failed).rejects.toMatchObject({ code: "upstream_failed" });
  expect([recorded, settled]).toEqual([[], [0]]);
  const spent: Ledger = {
    ...ledger,
    reserve() {
      throw new AppError("insufficient_quota", "nothing left");
    },
  };
  const refused = meter(caller, spent).call(llmRequest());
  await expect(refused).rejects.toMatchObject({ code: "insufficient_quota" });
  expect(calls).toBe(1);
});

const messages = [{ role: "user", content: "x".repeat(400) }];
const picture = [{ content: [{ image_url: { url: `data:image/png;base64,${"A".repeat(9_999)}` } }] }];

test.each<[string, LlmEndpoint, object, number]>([
  ["a prompt and its max_tokens", "chat/completions", { messages, max_tokens: 50 }, 101 + 50],
  ["the newer name first", "chat/completions", { max_tokens: 5, max_completion_tokens: 7 }, 7],
  ["each of n answers", "chat/completions", { max_tokens: 7, n: 3 }, 21],
  ["an answer without a bound", "chat/completions", { messages: [] }, 1_024],
  ["a bound of another type", "chat/completions", { max_tokens: "many" }, 1_024],
  ["token ids, and the endpoint's own default", "completions", { prompt: [1, 2, 3] }, 3 + 16],
  ["the best of several", "completions", { prompt: "", max_tokens: 10, n: 1, best_of: 4 }, 40],
  ["embeddings, which have no answer", "embeddings", { input: ["x".repeat(40), "y".repeat(40)], max_tokens: 9 }, 20],
  ["a picture, by nothing", "chat/completions", { messages: picture, max_tokens: 1 }, 1],
])("what is estimated: %s", (_, endpoint, value, tokens) => {
  expect(estimateTokens(llmRequest({ endpoint, body: { kind: "json", value: { ...value } } }))).toBe(tokens);
});
