// The engine on a virtual clock: what a client would wait for, to the microsecond, without waiting.
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  createEngine,
  type EngineObserver,
  type Generation,
  type GenerationRequest,
  type GenerationSummary,
} from "./engine.ts";
import { createVirtualClock } from "./engine-clock.ts";
import type { Profile } from "./profile.ts";
import type { Recording } from "./recording.ts";

const profile: Profile = {
  name: "test",
  description: "",
  stepUs: {
    prefillPerTokenSquared: 0,
    prefillPerToken: 100,
    prefill: 10_000,
    decodePerKvShareSquared: 0,
    decodePerKvShare: 0,
    decode: 5_000,
    floor: 0,
  },
  jitter: 0,
  loadFactor: 1,
  maxNumSeqs: 4,
  maxNumBatchedTokens: 100,
  blockSize: 16,
  numBlocks: 64,
  maxModelLen: 1_024,
  maxWaiting: 4,
  fullStatus: 429,
  maxLoras: 1,
  overheadUs: 0,
  compileUs: 0,
  startupMs: 0,
  replay: null,
};

/** Of a request that is nothing special. */
const plain = {
  lora: null,
  grammar: null,
  finishReason: "stop",
  seed: () => "",
  onToken() {},
  onAborted() {},
} as const;

interface Counts extends EngineObserver {
  readonly ended: GenerationSummary[];
  readonly firstUs: number[];
  readonly nextUs: number[];
  steps: number;
  preempted: number;
  queried: number;
  hit: number;
}

function observe(): Counts {
  const counts: Counts = {
    ended: [],
    firstUs: [],
    nextUs: [],
    steps: 0,
    preempted: 0,
    queried: 0,
    hit: 0,
    onStep: () => void counts.steps++,
    onPrefixCache(queried, hit) {
      counts.queried += queried;
      counts.hit += hit;
    },
    onPreempted: () => void counts.preempted++,
    onFirstToken: (us) => void counts.firstUs.push(us),
    onNextToken: (us) => void counts.nextUs.push(us),
    onEnded: (summary) => void counts.ended.push(summary),
  };
  return counts;
}

function setUp(changes: Partial<Profile> = {}, speedup = 1, recording: Recording | null = null) {
  const clock = createVirtualClock();
  const counts = observe();
  const engine = createEngine({ profile: { ...profile, ...changes }, clock, speedup, recording, observer: counts });
  const tokens: { name: string; index: number; atUs: number }[] = [];
  const submit = (
    name: string,
    prompt: number,
    output: number,
    priority = 0,
    words = name,
    more: Partial<GenerationRequest> = {},
  ): Generation =>
    engine.submit({
      prompt: Array.from({ length: prompt }, (_, index) => `${words}${index}`),
      output: Array.from({ length: output }, (_, index) => `said${index}`),
      salt: "model",
      priority,
      ...plain,
      seed: () => words,
      onToken: (index) => tokens.push({ name, index, atUs: clock.nowUs() }),
      ...more,
    });
  const timesOf = (name: string): number[] => tokens.filter((one) => one.name === name).map((one) => one.atUs);
  return { clock, counts, engine, submit, tokens, timesOf };
}

test("one request: its prompt, then a token a step", () => {
  const { clock, submit, timesOf, counts } = setUp();
  submit("a", 20, 4);
  clock.run();
  expect(timesOf("a")).toEqual([12_000, 17_000, 22_000, 27_000]);
  expect(counts.firstUs).toEqual([12_000]);
  expect(counts.nextUs).toEqual([5_000, 5_000, 5_000]);
  expect(counts.ended).toEqual([
    {
      reason: "stop",
      promptTokens: 20,
      generatedTokens: 4,
      cachedTokens: 0,
      preemptions: 0,
      queueUs: 0,
      prefillUs: 12_000,
      decodeUs: 15_000,
      endToEndUs: 27_000,
    },
  ]);
});

test("a step is shared: another's prompt delays the next token, by as much as it takes", () => {
  const { clock, submit, timesOf } = setUp();
  submit("a", 20, 4);
  clock.run(13_000);
  submit("b", 50, 2);
  clock.run();
  // 50 tokens of b and one of a, in one step: 10 + 5 + 5 ms.
  expect(timesOf("a")).toEqual([12_000, 17_000, 37_000, 42_000]);
  expect(timesOf("b")).toEqual([37_000, 42_000]);
});

test("twice as fast takes half the time", () => {
  const { clock, submit, timesOf } = setUp({}, 2);
  submit("a", 20, 2);
  clock.run();
  expect(timesOf("a")).toEqual([6_000, 8_500]);
});

test("a prompt that was there before costs what is new of it", () => {
  const { clock, submit, timesOf, counts } = setUp();
  submit("a", 40, 1);
  clock.run();
  const again = submit("b", 40, 1, 0, "a");
  clock.run();
  expect(again.cachedTokens()).toBe(32);
  expect(timesOf("b")).toEqual([14_000 + 10_800]);
  expect([counts.queried, counts.hit]).toEqual([80, 32]);
});

test("another salt shares nothing", () => {
  const { clock, engine, submit } = setUp();
  submit("a", 40, 1);
  clock.run();
  const other = engine.submit({
    prompt: Array.from({ length: 40 }, (_, index) => `a${index}`),
    output: ["x"],
    salt: "model\u0000tenant",
    priority: 0,
    ...plain,
  });
  clock.run();
  expect(other.cachedTokens()).toBe(0);
});

test("the same words behind others are another prefix", () => {
  const { clock, engine } = setUp();
  const block = (word: string): string[] => Array.from({ length: 16 }, () => word);
  const cachedOf = (...words: string[]): number => {
    const prompt = [...words.flatMap(block), "end"];
    const request = { prompt, output: ["x"], salt: "", priority: 0, ...plain };
    const generation = engine.submit(request);
    clock.run();
    return generation.cachedTokens();
  };
  expect([cachedOf("river", "mill"), cachedOf("wheel", "grain")]).toEqual([0, 0]);
  expect([cachedOf("wheel", "mill"), cachedOf("river", "mill")]).toEqual([16, 32]);
});

test("the queue has an end", () => {
  const { engine, submit, clock } = setUp();
  for (let count = 0; count < 8; count++) {
    expect(engine.isFull()).toBe(false);
    submit(`r${count}`, 10, 5);
  }
  expect(engine.isFull()).toBe(true);
  clock.run();
  expect(engine.isFull()).toBe(false);
  expect(engine.load()).toEqual({ running: 0, waiting: 0, deferred: 0, blocksUsed: 0, blocksTotal: 64 });
});

test("who leaves hears nothing more, and the next step has its room", () => {
  const { clock, engine, submit, timesOf, counts } = setUp({ maxNumSeqs: 1 });
  const leaving = submit("a", 20, 1_000);
  submit("b", 20, 1);
  clock.run(20_000);
  expect(engine.load()).toMatchObject({ running: 1, waiting: 1, blocksUsed: 2 });
  leaving.abort();
  leaving.abort();
  clock.run();
  // The step from 17 to 22 ms was under way.
  expect(timesOf("a")).toEqual([12_000, 17_000]);
  expect(timesOf("b")).toEqual([34_000]);
  expect(counts.ended.map(({ reason, generatedTokens }) => [reason, generatedTokens])).toEqual([
    ["abort", 2],
    ["stop", 1],
  ]);
  expect(engine.load().blocksUsed).toBe(0);
});

test("a new profile counts from the next step on, and keeps the memory", () => {
  const { clock, engine, submit, timesOf } = setUp();
  submit("a", 20, 4);
  clock.run(13_000);
  engine.setProfile({ ...profile, stepUs: { ...profile.stepUs, decode: 1_000 } });
  clock.run();
  expect(timesOf("a")).toEqual([12_000, 17_000, 18_000, 19_000]);
  expect(() => engine.setProfile({ ...profile, numBlocks: 65 })).toThrow(RangeError);
});

test("tokenizing takes its time before the queue, and a grammar more the first time", () => {
  const { clock, engine, submit, timesOf } = setUp({ overheadUs: 3_000, compileUs: 20_000, maxNumSeqs: 1 });
  submit("a", 20, 1, 0, "a", { grammar: "schema" });
  submit("b", 20, 1);
  clock.run(2_000);
  expect(engine.load()).toMatchObject({ running: 0, waiting: 2, deferred: 2 });
  clock.run();
  submit("c", 20, 1, 0, "c", { grammar: "schema" });
  clock.run();
  expect([timesOf("a"), timesOf("b"), timesOf("c")]).toEqual([[35_000], [15_000], [50_000]]);
});

test("who leaves before the engine hears of it is counted and gone", () => {
  const { clock, engine, submit, tokens, counts } = setUp({ overheadUs: 3_000 });
  submit("a", 20, 4).abort();
  clock.run();
  expect([tokens.length, counts.ended.map(({ reason }) => reason)]).toEqual([0, ["abort"]]);
  expect(engine.load()).toMatchObject({ running: 0, waiting: 0, deferred: 0 });
});

test("alone a request takes as long as it ever did, whatever ran before it", () => {
  const alone = setUp({ jitter: 0.3 });
  alone.submit("a", 20, 8);
  alone.clock.run();
  const after = setUp({ jitter: 0.3 });
  after.submit("other", 50, 30);
  after.clock.run();
  const begunUs = after.clock.nowUs();
  after.submit("a", 20, 8);
  after.clock.run();
  const times = alone.timesOf("a");
  expect(after.timesOf("a").map((us) => Math.round(us - begunUs))).toEqual(times.map(Math.round));
  const gaps = times.slice(1).map((us, index) => us - (times[index] ?? 0));
  expect(new Set(gaps.map(Math.round)).size).toBeGreaterThan(4);
});

test("paused, nothing goes on: what runs is kept and ends later, or is given up", () => {
  for (const abort of [false, true]) {
    const { clock, engine, submit, timesOf, counts } = setUp();
    let given = 0;
    submit("a", 20, 4, 0, "a", { onAborted: () => given++ });
    clock.run(13_000);
    engine.pause(abort);
    submit("b", 20, 1);
    submit("c", 20, 1).abort();
    clock.run();
    expect([given, timesOf("b")]).toEqual([abort ? 1 : 0, []]);
    expect(engine.load()).toMatchObject(abort ? { running: 0, waiting: 1, blocksUsed: 0 } : { running: 1, waiting: 1 });
    engine.resume();
    clock.run();
    expect([timesOf("a").length, timesOf("b").length]).toEqual([abort ? 1 : 4, 1]);
    expect(counts.ended.filter(({ reason }) => reason === "abort")).toHaveLength(abort ? 2 : 1);
  }
});

test("the prefixes of what runs are forgotten where it may be preempted", () => {
  const { clock, engine, submit, timesOf, counts } = setUp();
  submit("a", 40, 3);
  clock.run(15_000);
  expect([engine.forgetPrefixes(), engine.forgetPrefixes(true)]).toEqual([false, true]);
  clock.run();
  expect([timesOf("a").length, counts.preempted, counts.hit]).toEqual([3, 1, 0]);
});

const recording: Recording = {
  requests: [
    { promptTokens: 20, ttftUs: 7_000, itlUs: [1_000, 4_000] },
    { promptTokens: 500, ttftUs: 90_000, itlUs: [] },
  ],
};

test("a replay has the recorded times, each request its own, and waits for a slot like any other", () => {
  const { clock, submit, timesOf, counts, engine } = setUp({ maxNumSeqs: 2 }, 1, recording);
  submit("a", 30, 5);
  clock.run(500);
  submit("b", 25, 2);
  submit("late", 20, 1);
  clock.run();
  expect(timesOf("a")).toEqual([7_000, 8_000, 12_000, 13_000, 17_000]);
  expect(timesOf("b")).toEqual([7_500, 8_500]);
  expect(timesOf("late")).toEqual([8_500 + 7_000]);
  submit("long", 400, 2);
  clock.run(17_001);
  expect(engine.load()).toMatchObject({ running: 1, waiting: 0 });
  clock.run();
  expect(timesOf("long")).toEqual([17_000 + 90_000, 17_000 + 90_000]);
  expect(counts.ended.map(({ reason }) => reason)).toEqual(["stop", "stop", "stop", "stop"]);
});

test("a replay is as much faster as it is told", () => {
  const { clock, submit, timesOf } = setUp({}, 10, recording);
  submit("a", 30, 3);
  clock.run();
  expect(timesOf("a")).toEqual([700, 800, 1_200]);
});

test("a stopped engine is silent", () => {
  const { clock, engine, submit, tokens } = setUp();
  submit("a", 20, 4);
  clock.run(13_000);
  engine.stop();
  submit("b", 20, 4);
  clock.run();
  expect(tokens).toHaveLength(1);
});

const traffic = fc.array(
  fc.record({
    prompt: fc.integer({ min: 1, max: 300 }),
    output: fc.integer({ min: 1, max: 60 }),
    priority: fc.integer({ min: 0, max: 1 }),
    words: fc.constantFrom("one", "other"),
    atUs: fc.nat({ max: 400_000 }),
    leavesAtUs: fc.option(fc.nat({ max: 900_000 }), { freq: 3 }),
  }),
  { minLength: 1, maxLength: 15 },
);

test("the same traffic is the same to the microsecond, all of it ends, and all is counted", () => {
  fc.assert(
    fc.property(traffic, (requests) => {
      const run = () => {
        const { clock, counts, engine, submit, tokens } = setUp({ jitter: 0.2, numBlocks: 40, maxModelLen: 512 });
        for (const [index, request] of requests.entries()) {
          clock.at(request.atUs, () => {
            const { prompt, output, priority, words } = request;
            const generation = submit(`r${index}`, prompt, output, priority, words);
            if (request.leavesAtUs !== null) clock.at(request.leavesAtUs, generation.abort);
          });
        }
        clock.run();
        expect(engine.load()).toEqual({ running: 0, waiting: 0, deferred: 0, blocksUsed: 0, blocksTotal: 40 });
        return { tokens, ended: counts.ended, counts };
      };
      const [first, second] = [run(), run()];
      expect(first.tokens).toEqual(second.tokens);
      expect(first.ended).toEqual(second.ended);
      expect(first.ended).toHaveLength(requests.length);
      const generated = first.ended.reduce((sum, one) => sum + one.generatedTokens, 0);
      expect(first.tokens).toHaveLength(generated);
      expect(first.counts.preempted).toBe(first.ended.reduce((sum, one) => sum + one.preemptions, 0));
      for (const [index, request] of requests.entries()) {
        const own = first.tokens.filter((one) => one.name === `r${index}`).map((one) => one.index);
        expect(own).toEqual(own.map((_, at) => at));
        if (request.leavesAtUs === null) expect(own).toHaveLength(request.output);
      }
    }),
    { numRuns: 60 },
  );
});
