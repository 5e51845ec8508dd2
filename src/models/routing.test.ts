import { beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { silentLog } from "../log.ts";
import { OPEN_MS } from "./breaker.ts";
import { UNAUTHORIZED_MS } from "./health.ts";
import type { Target, TryOutcome } from "./llm-models.ts";
import { parseModelsFile } from "./models-file.ts";
import type { LlmOffer, Offering } from "./offers.ts";
import { createRouting, type Routing } from "./routing.ts";

const text = `
providers:
  local: { base_url: "http://127.0.0.1:800{gpu}", discover: true }
  shared: { kind: vllm, base_url: "http://127.0.0.1:9000", discover: true }
  cloud: { kind: openai, base_url: "https://cloud.example" }
models:
  assistant:
    aliases: [gpt-4o]
    variants:
      - { name: big, provider: shared, model: big-1, weight: 3 }
      - { name: small, provider: shared, model: small-1 }
    fallbacks: [assistant-cloud]
  assistant-cloud: { variants: [{ provider: cloud, model: cloud-1 }], fallbacks: [last] }
  last: { variants: [{ provider: local, model: llama/3 }] }
  vectors: { variants: [{ provider: shared, model: e5 }], endpoints: [embeddings], in_flight_max: 8 }
  old: { stage: archived, variants: [{ provider: shared, model: big-1 }] }
defaults: { embeddings: vectors }
`;
const file = parseModelsFile(text, {});
const offer = (models: string[] | null, fields: Partial<LlmOffer> = {}): LlmOffer => ({
  models,
  ready: true,
  kind: "vllm",
  perGpu: false,
  ...fields,
});
const shared = offer(["big-1", "small-1", "e5"]);
const cloud = offer(null, { kind: "openai" });
const local = offer(["llama/3"], { perGpu: true });

let nowMs = 0;
let told: string[] = [];
const tell = (fields: object, message: string): void => {
  told.push(`${Object.values(fields).join(" ")}: ${message.replace(/:.*/, "")}`);
};
let actors: Offering[] = [];
let routing: Routing;
beforeEach(() => {
  nowMs = 1_000;
  told = [];
  actors = [
    { id: "a-0", llm: { local, shared, cloud } },
    { id: "a-1", llm: { local, shared, cloud } },
  ];
  routing = createRouting({
    file: () => file,
    actors: () => actors,
    defaultModel: null,
    clock: { now: () => 1_700_000_000_000 + nowMs, monotonicMs: () => nowMs },
    log: { ...silentLog, info: tell, warn: tell },
  });
});
const plan = (name: string, key = "k") => routing.plan(name, "chat/completions", key).map((target) => target.variant);
const target = (name: string, variant: string): Target =>
  routing.plan(name, "chat/completions", "k").find((one) => one.variant === variant) as Target;
const fail = (one: Target, actorId: string, times: number, outcome: TryOutcome = "failed"): void => {
  for (let i = 0; i < times; i++) routing.report(one, actorId, outcome);
};

describe("names", () => {
  test("ids, aliases and what servers offer are found; the rest is unknown, as is what does not answer the endpoint", () => {
    expect(routing.find("gpt-4o")?.id).toBe("assistant");
    expect(routing.find("llama/3")).toMatchObject({ id: "llama/3", aliases: [], healthy: true });
    expect(routing.resolve("vectors", "embeddings")).toMatchObject({ inFlightMax: 8, endpoints: ["embeddings"] });
    expect(routing.resolve("vectors", "chat/completions")).toBeNull();
    expect(routing.find("old")).toMatchObject({ stage: "archived", healthy: false });
    for (const name of ["none", "vectors", "old"]) {
      expect(() => plan(name)).toThrow(expect.objectContaining({ code: "unknown_model" }));
    }
    expect(routing.list().map(({ id }) => id)).toEqual([
      ...["assistant", "assistant-cloud", "last", "vectors", "old"],
      ...["llama/3", "big-1", "small-1", "e5"],
    ]);
  });

  test("what is missing is said: no such name, not this endpoint, or a server that nobody has heard of yet", () => {
    const said = (name: string) => ({ ...routing.missing(name, "chat/completions") });
    expect(routing.missing("a/b", "chat/completions").message).toStartWith("There is no language model a/b. ");
    expect(routing.missing("vectors", "chat/completions").message).toStartWith("The model vectors does not answer ");
    expect(routing.missing("old", "chat/completions").message).toStartWith("The model old is archived. ");
    expect([said("none"), said("old")]).toMatchObject([{ code: "unknown_model" }, { code: "unknown_model" }]);
    actors = [{ id: "a-0", llm: { local, cloud } }];
    nowMs += 1_000;
    expect(said("none")).toMatchObject({ code: "model_unavailable", retryAfterS: 5 });
    expect(said("vectors")).toMatchObject({ code: "unknown_model" });
    actors = [{ id: "a-0", llm: { local, cloud, shared: { ...shared, ready: false } } }];
    nowMs += 1_000;
    expect(said("none")).toMatchObject({ code: "unknown_model" });
    actors = [{ id: "a-0", llm: { local, cloud, shared: { ...shared, ready: false, refused: true } } }];
    nowMs += 1_000;
    expect(said("none")).toMatchObject({ code: "upstream_unauthorized" });
    expect(routing.refused("e5", "embeddings")).toBe(true);
    expect(routing.refused("assistant", "chat/completions")).toBe(false);
  });

  test("the empty name is the file's default, else LLM_MODEL, else the first model, up or not", () => {
    expect(routing.resolve("", "embeddings")?.id).toBe("vectors");
    expect(routing.resolve("", "chat/completions")?.id).toBe("assistant");
    actors = [{ id: "a-0", llm: { local } }];
    nowMs += 1_000;
    expect([routing.defaultModel("chat"), routing.defaultModel("vision")]).toEqual(["assistant", "assistant"]);
    const configured = createRouting({
      file: () => parseModelsFile("providers: { shared: { base_url: http://x, discover: true } }", {}),
      actors: () => [{ id: "a-0", llm: { shared } }],
      defaultModel: "small-1",
      clock: { now: () => 0, monotonicMs: () => 0 },
      log: silentLog,
    });
    expect(configured.resolve("", "chat/completions")?.id).toBe("small-1");
  });

  test("a name that two providers offer is one model with a variant at each; one of the file hides it", () => {
    actors = [{ id: "a-0", llm: { local: offer(["same", "assistant"], { perGpu: true }), shared: offer(["same"]) } }];
    expect(plan("same").sort()).toEqual(["local", "shared"]);
    expect(routing.find("assistant")?.aliases).toEqual(["gpt-4o"]);
  });

  test("the kind and whether each GPU has its own come from the file, or from the server", () => {
    expect(target("assistant", "big")).toMatchObject({ kind: "vllm", upstreamModel: "big-1", perGpu: false });
    expect(target("last", "local")).toMatchObject({ kind: "vllm", perGpu: true });
    expect(target("assistant-cloud", "cloud")).toMatchObject({ kind: "openai" });
  });
});

describe("plans", () => {
  test("the variants of the model, then those of its fallbacks; a key has the same plan every time", () => {
    fc.assert(
      fc.property(fc.string(), (key) => {
        const order = plan("gpt-4o", key);
        expect(order).toEqual(plan("assistant", key));
        expect(order.slice(0, 2).sort()).toEqual(["big", "small"]);
        expect(order.slice(2)).toEqual(["cloud", "local"]);
      }),
    );
  });

  test("a server that is down is left out, and its models are still known", () => {
    actors = actors.map(({ id }) => ({ id, llm: { local, shared: { ...shared, ready: false }, cloud } }));
    expect(plan("assistant")).toEqual(["cloud", "local"]);
    expect(routing.find("big-1")?.healthy).toBe(false);
    expect(plan("big-1")).toEqual([]);
  });

  test("a server that lists its models answers for those alone", () => {
    actors = [{ id: "a-0", llm: { local, shared: offer(["small-1"]), cloud } }];
    expect(plan("assistant")).toEqual(["small", "cloud", "local"]);
  });

  test("what no live actor reaches is left out", () => {
    actors = [{ id: "a-0", llm: { cloud } }, { id: "a-1" }];
    expect(plan("assistant")).toEqual(["cloud"]);
    actors = [];
    nowMs += 1_000;
    expect(plan("assistant")).toEqual([]);
    expect(routing.find("assistant")?.healthy).toBe(false);
  });
});

describe("health", () => {
  test("an open breaker takes its variant out of plans, until one probe at a time finds it well again", () => {
    const big = target("assistant", "big");
    fail(big, "a-0", 5);
    expect(plan("assistant")).not.toContain("big");
    expect(routing.admits(big, "a-1")).toBe(false); // a shared server is the same one from everywhere
    expect(routing.targets().find(({ target: { variant } }) => variant === "big")).toMatchObject({
      callable: false,
      breaker: "open",
    });
    nowMs += OPEN_MS;
    expect(plan("assistant")).toContain("big");
    expect(routing.admits(big, "a-0")).toBe(true);
    expect(routing.admits(big, "a-1")).toBe(false);
    expect(plan("assistant")).not.toContain("big"); // its probe is out
    routing.report(big, "a-0", "begun");
    expect(routing.admits(big, "a-0")).toBe(true); // its answer is not over, and another may try
    routing.report(big, "a-0", "ok");
    expect([routing.admits(big, "a-0"), routing.admits(big, "a-1")]).toEqual([true, true]);
    expect(told).toEqual(["assistant big shared: a breaker opens", "assistant big shared: a breaker closes"]);
  });

  test("overload opens nothing", () => {
    fail(target("assistant", "big"), "a-0", 100, "overloaded");
    expect(plan("assistant")).toContain("big");
  });

  test("where each GPU has a server, one that fails leaves the others", () => {
    const own = target("last", "local");
    fail(own, "a-0", 5);
    expect([routing.admits(own, "a-0"), routing.admits(own, "a-1")]).toEqual([false, true]);
    expect(plan("last")).toEqual(["local"]);
    fail(own, "a-1", 5);
    expect(plan("last")).toEqual([]);
    expect(told).toEqual(["a-0", "a-1"].map((id) => `last local local ${id}: a breaker opens`));
    // The next actor of that GPU has a clean slate.
    actors = [{ id: "a-2", llm: { local } }];
    nowMs += 1_000;
    expect(plan("last")).toEqual(["local"]);
    expect(routing.targets().every(({ breaker }) => breaker === "closed")).toBe(true);
  });

  test("a refused key closes the whole provider at once, for five minutes or until the file is loaded anew", () => {
    const refuse = () => routing.report(target("assistant", "big"), "a-0", "unauthorized");
    refuse();
    routing.report({ ...target("assistant-cloud", "cloud"), provider: "shared" }, "a-0", "unauthorized");
    expect(told).toEqual(["shared: the provider refuses our key, and is left out for now"]);
    expect(plan("assistant")).toEqual(["cloud", "local"]);
    expect(plan("e5")).toEqual([]);
    const refused = () => [routing.refused("assistant", "chat/completions"), routing.refused("e5", "embeddings")];
    expect(refused()).toEqual([false, true]); // another provider may answer for the first
    nowMs += UNAUTHORIZED_MS;
    expect(refused()).toEqual([false, false]);
    expect(plan("assistant")).toContain("small");
    refuse();
    expect(plan("assistant")).not.toContain("small");
    routing.reloaded();
    expect(plan("assistant")).toContain("small");
  });

  test("whatever happens, a plan holds what admits() allows, and each once", () => {
    const step = fc.record({
      variant: fc.constantFrom("big", "small", "cloud", "local"),
      actorId: fc.constantFrom("a-0", "a-1"),
      outcome: fc.constantFrom<TryOutcome>("ok", "failed", "failed", "failed", "overloaded", "unauthorized"),
      afterMs: fc.integer({ min: 0, max: 40_000 }),
    });
    const targets = new Map(
      ["big", "small", "cloud", "local"].map((variant) => [variant, target("assistant", variant)]),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        routing.reloaded();
        for (const { variant, actorId, outcome, afterMs } of steps) {
          nowMs += afterMs;
          const one = targets.get(variant) as Target;
          if (routing.admits(one, actorId)) routing.report(one, actorId, outcome);
          const planned = plan("assistant");
          expect(new Set(planned).size).toBe(planned.length);
          for (const { target: known, callable } of routing.targets()) {
            if (known.model === "assistant") expect(planned.includes(known.variant)).toBe(callable);
          }
        }
      }),
      { numRuns: 50 },
    );
  });
});
