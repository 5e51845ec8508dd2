import { describe, expect, test } from "bun:test";
import { AppError, asAppError } from "../errors.ts";
import type { Target, TryOutcome } from "../models/llm-models.ts";
import { openFirst } from "./attempts.ts";
import type { LlmRequest } from "./llm.ts";
import { type Blamed, type TryAnswer, TryFailure } from "./try.ts";
import { wholeAnswer } from "./whole-answer.ts";

const target = (variant: string, over: Partial<Target> = {}): Target => ({
  model: "m",
  variant,
  provider: `p-${variant}`,
  kind: "vllm",
  upstreamModel: "u",
  perGpu: false,
  ...over,
});
const request = (signal = new AbortController().signal): LlmRequest => ({
  endpoint: "chat/completions",
  model: "m",
  body: { kind: "json", value: {} },
  stream: false,
  streamUsage: false,
  requestId: "r",
  keyId: "k",
  stickyKey: "",
  affinity: "",
  signal,
});
const failure = (outcome: Exclude<TryOutcome, "ok">, blamed: Blamed = "server"): TryFailure => {
  const code =
    outcome === "overloaded" ? "model_overloaded" : outcome === "failed" ? "upstream_failed" : "model_unavailable";
  return new TryFailure(outcome, new AppError(code, "no", { retryAfterS: 7 }), blamed);
};

/** Tries `targets` at `actors`; `outcomes` says how each try ends, in order, and the last one how all after it do. */
async function run(
  targets: readonly Target[],
  actors: readonly string[],
  outcomes: readonly (TryFailure | "ok" | "refused")[],
  unfit: readonly string[] = [],
) {
  const tried: string[] = [];
  const reports: string[] = [];
  const retries: TryOutcome[] = [];
  const answer: TryAnswer = wholeAnswer({ status: 200, contentType: "text/plain", bytes: Buffer.from("x") });
  const refusal: TryAnswer = wholeAnswer({ status: 400, contentType: "text/plain", bytes: Buffer.from("x") });
  const opened = openFirst(targets, request(), performance.now() + 1_000, {
    choose: (_, excluded) => actors.find((id) => !excluded.has(id)) ?? null,
    async open({ target: { variant }, actorId }) {
      const outcome = outcomes[Math.min(tried.length, outcomes.length - 1)] ?? "ok";
      tried.push(`${variant}@${actorId}`);
      if (outcome === "ok") return answer;
      if (outcome === "refused") return refusal;
      throw outcome;
    },
    async encode({ variant }) {
      if (unfit.includes(variant)) throw new AppError("invalid_request", "a field");
      return { contentType: "text/plain", bytes: new Uint8Array() };
    },
    report: ({ variant }, actorId, outcome) => void reports.push(`${variant}@${actorId} ${outcome}`),
    onRetry: (why) => void retries.push(why),
    random: () => 0,
  });
  const code = await opened.then(
    () => null,
    (error: unknown) => asAppError(error)?.code,
  );
  return { tried, reports, retries, code };
}

const [v, w] = [target("v"), target("w")];
const own = target("g", { perGpu: true });

describe("the order of tries", () => {
  test("a failure goes to the next target, then to the same address again: many servers may lie behind it", async () => {
    expect(await run([v, w], ["a"], [failure("failed")])).toMatchObject({
      tried: ["v@a", "w@a", "v@a"],
      retries: ["failed", "failed"],
      code: "upstream_failed",
    });
  });
  test("an address that fails one call again and again is told of once: the call may be what breaks it", async () => {
    const { tried, reports } = await run([v], ["a"], [failure("failed")]);
    expect([tried, reports]).toEqual([["v@a", "v@a", "v@a"], ["v@a failed"]]);
    expect((await run([own], ["a", "b"], [failure("failed")])).reports).toEqual(["g@a failed", "g@b failed"]);
  });
  test("a server of one GPU is never asked twice: another actor's, then the next target", async () => {
    const { tried } = await run([own, v], ["a", "b"], [failure("failed")]);
    expect(tried).toEqual(["g@a", "g@b", "v@a"]);
  });
  test("an actor that is gone is not tried again, and says nothing of the server", async () => {
    const { tried, reports } = await run([v], ["a", "b"], [failure("failed", "actor"), "ok"]);
    expect([tried, reports]).toEqual([["v@a", "v@b"], []]);
  });
  test("a server that is full is left for the next one, and costs no retry", async () => {
    const targets = ["1", "2", "3", "4", "5"].map((name) => target(name));
    const { tried, code } = await run(targets, ["a"], [failure("overloaded")]);
    expect(tried.length).toBe(5);
    expect(code).toBe("model_overloaded");
  });
  test("a provider that refuses our key is not asked for another variant", async () => {
    const twin = target("x", { provider: v.provider });
    const { tried, reports } = await run([v, twin, w], ["a"], [failure("unauthorized"), "ok"]);
    expect([tried, reports]).toEqual([["v@a", "w@a"], ["v@a unauthorized"]]);
  });
  test("a target that cannot be asked for this is left out; where there is no other, the client hears why", async () => {
    expect((await run([v, w], ["a"], ["ok"], ["v"])).tried).toEqual(["w@a"]);
    expect((await run([v, w], ["a"], ["ok"], ["v", "w"])).code).toBe("invalid_request");
  });
});

describe("a server that answers with an error of its own", () => {
  const errors = failure("failed", "unclear");
  test("has failed where another answers the same request", async () => {
    expect((await run([v, w], ["a"], [errors, "ok"])).reports).toEqual(["v@a failed"]);
    expect((await run([own], ["a", "b"], [errors, "ok"])).reports).toEqual(["g@a failed"]);
  });
  test("may have met a request that breaks it, where nobody else answers that one either", async () => {
    expect(await run([v], ["a"], [errors])).toMatchObject({ reports: ["v@a unclear"], code: "upstream_failed" });
    expect((await run([v, w], ["a"], [errors])).reports).toEqual(["v@a unclear", "w@a unclear"]);
    expect((await run([v, w], ["a"], [errors, "refused"])).reports).toEqual(["v@a unclear"]);
    expect((await run([v, w], ["a"], [errors, failure("failed")])).reports).toEqual(["w@a failed", "v@a unclear"]);
  });
  test("has not failed where it answers the same request a moment later", async () => {
    expect((await run([v], ["a"], [errors, "ok"])).reports).toEqual(["v@a unclear"]);
  });
});

describe("the verdict", () => {
  test("nobody to ask", async () => {
    expect((await run([], ["a"], ["ok"])).code).toBe("model_unavailable");
    expect((await run([v], [], ["ok"])).code).toBe("model_unavailable");
  });
  test("one full, and another gone: full", async () => {
    const outcomes = [failure("overloaded"), failure("failed", "actor")];
    expect((await run([own], ["a", "b"], outcomes)).code).toBe("model_overloaded");
  });
  test("one that broke, whatever comes after it: the request may be what it died of", async () => {
    const away = new TryFailure("failed", new AppError("model_unavailable", "away"));
    expect((await run([v, w], ["a"], [failure("failed"), away])).code).toBe("upstream_failed");
    expect((await run([own], ["a", "b"], [failure("failed"), failure("overloaded")])).code).toBe("upstream_failed");
    expect((await run([v, w], ["a"], [away])).code).toBe("model_unavailable");
  });
  test("one full, and another broken: broken", async () => {
    expect((await run([own], ["a", "b"], [failure("overloaded"), failure("failed")])).code).toBe("upstream_failed");
  });
});

test("what no server is to blame for ends the tries as it is", async () => {
  const mine = new AppError("payload_too_large", "no");
  let tried = 0;
  const opened = openFirst([v, w], request(), performance.now() + 1_000, {
    choose: () => "a",
    async open() {
      tried++;
      throw mine;
    },
    encode: async () => ({ contentType: "", bytes: new Uint8Array() }),
    report: () => {},
    onRetry: () => {},
    random: () => 1,
  });
  expect(await opened.catch((error: unknown) => error)).toBe(mine);
  expect(tried).toBe(1);
});

test("a client that leaves ends the tries, also while one waits for its turn", async () => {
  const leaving = new AbortController();
  const tried: string[] = [];
  const opened = openFirst([v, w], request(leaving.signal), performance.now() + 1_000, {
    choose: () => "a",
    async open({ target: { variant } }) {
      tried.push(variant);
      queueMicrotask(() => leaving.abort(new Error("left")));
      throw failure("failed");
    },
    encode: async () => ({ contentType: "", bytes: new Uint8Array() }),
    report: () => {},
    onRetry: () => {},
    random: () => 1,
  });
  expect(opened).rejects.toThrow("left");
  await opened.catch(() => {});
  expect(tried).toEqual(["v"]);
});
