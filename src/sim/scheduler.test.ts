import { expect, test } from "bun:test";
import fc from "fast-check";
import { createScheduler, type Scheduler, type SchedulerOptions, type Sequence } from "./scheduler.ts";

const options: SchedulerOptions = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 64,
  maxLoras: 1,
  blockSize: 16,
  numBlocks: 100,
};

interface Wanted {
  readonly prompt?: number;
  readonly output?: number;
  readonly priority?: number;
  /** Sequences of one family share all of their text. */
  readonly family?: number;
  readonly lora?: string | null;
  /** 0: it waits at once. */
  readonly heldSteps?: number;
}

let families = 1_000;
const add = (scheduler: Scheduler, wanted: Wanted = {}): Sequence => {
  const { prompt = 10, output = 3, priority = 0, family = families++, lora = null } = wanted;
  const spec = {
    promptTokens: prompt,
    outputTokens: output,
    priority,
    lora,
    hashOf: (index: number) => BigInt(family) * 1_000_000n + BigInt(index),
  };
  return scheduler.add(spec, (wanted.heldSteps ?? 0) > 0);
};

/** One step: how many tokens each sequence computed in it. */
function step(scheduler: Scheduler, sequences: readonly Sequence[]): number[] {
  const planned = scheduler.schedule();
  const counts = sequences.map((one) => one.scheduled);
  scheduler.complete(planned);
  return counts;
}

test("a prompt longer than the budget is computed in chunks, and waits for no one else's answer", () => {
  const scheduler = createScheduler(options);
  const talking = add(scheduler, { prompt: 8, output: 10 });
  step(scheduler, [talking]);
  const long = add(scheduler, { prompt: 150, output: 2 });
  const both = [talking, long];
  // The one that talks gets its token in every step, whatever else is read.
  expect([step(scheduler, both), step(scheduler, both), step(scheduler, both), step(scheduler, both)]).toEqual([
    [1, 63],
    [1, 63],
    [1, 24],
    [1, 1],
  ]);
  expect(long.state).toBe("ended");
});

test("running sequences go before those that wait, and no more run than may", () => {
  const scheduler = createScheduler({ ...options, maxNumSeqs: 2 });
  const all = [add(scheduler), add(scheduler), add(scheduler)];
  expect(step(scheduler, all)).toEqual([10, 10, 0]);
  expect(scheduler.waiting()).toBe(1);
  expect(step(scheduler, all)).toEqual([1, 1, 0]);
  expect(step(scheduler, all)).toEqual([1, 1, 0]);
  expect(step(scheduler, all)).toEqual([0, 0, 10]);
});

test("a lower priority value goes first, equal ones in the order of arrival", () => {
  const scheduler = createScheduler({ ...options, maxNumSeqs: 1 });
  const [first, second, urgent] = [add(scheduler), add(scheduler), add(scheduler, { priority: -1 })];
  const order: Sequence[] = [];
  while (!scheduler.idle()) {
    for (const one of scheduler.complete(scheduler.schedule())) if (one.generated === 1) order.push(one);
  }
  expect(order).toEqual([urgent, first, second]);
});

test("a prompt that was there before is found in full blocks, all but its last token", () => {
  const scheduler = createScheduler(options);
  const first = add(scheduler, { prompt: 48, output: 1, family: 1 });
  expect(step(scheduler, [first])).toEqual([48]);
  const again = add(scheduler, { prompt: 48, output: 1, family: 1 });
  expect(step(scheduler, [again])).toEqual([16]);
  expect(again.cached).toBe(32);
  const longer = add(scheduler, { prompt: 60, output: 1, family: 1 });
  expect(step(scheduler, [longer])).toEqual([12]);
  const other = add(scheduler, { prompt: 48, output: 1, family: 2 });
  expect(step(scheduler, [other])).toEqual([48]);
  expect(scheduler.blocksUsed()).toBe(0);
});

test("the answer is part of the prefix of the next turn", () => {
  const scheduler = createScheduler(options);
  const first = add(scheduler, { prompt: 20, output: 30, family: 1 });
  while (!scheduler.idle()) step(scheduler, [first]);
  const next = add(scheduler, { prompt: 60, output: 1, family: 1 });
  step(scheduler, [next]);
  // 49 tokens of the first were computed; its last one never was.
  expect(next.cached).toBe(48);
});

test("two that begin together share their prefix at once", () => {
  const scheduler = createScheduler(options);
  const both = [add(scheduler, { prompt: 40, family: 1 }), add(scheduler, { prompt: 40, family: 1 })];
  expect(step(scheduler, both)).toEqual([40, 8]);
  expect(scheduler.blocksUsed()).toBe(4);
});

test("the least recently used prefix is forgotten first", () => {
  const scheduler = createScheduler({ ...options, numBlocks: 6 });
  const run = (family: number, prompt = 33): number => {
    const one = add(scheduler, { prompt, output: 1, family });
    step(scheduler, [one]);
    return one.cached;
  };
  run(1);
  run(2);
  expect(run(1)).toBe(32);
  run(3, 49); // takes what no hash names, then the room of 2
  expect(run(1)).toBe(32);
  expect(run(2)).toBe(0);
});

test("without memory the last one to come gives its own back, and computes all of it again", () => {
  const scheduler = createScheduler({ ...options, numBlocks: 4 });
  const early = add(scheduler, { prompt: 30, output: 10 });
  const late = add(scheduler, { prompt: 30, output: 10 });
  const both = [early, late];
  expect(step(scheduler, both)).toEqual([30, 30]);
  expect(step(scheduler, both)).toEqual([1, 1]);
  expect(step(scheduler, both)).toEqual([1, 1]);
  // Token 33 of each needs a third block; there are four in all.
  const planned = scheduler.schedule();
  expect(planned.preempted).toEqual([late]);
  expect(late).toMatchObject({ state: "waiting", preemptions: 1, generated: 3, computed: 0 });
  scheduler.complete(planned);
  while (early.state !== "ended") step(scheduler, both);
  // Its first block is still in memory: the early one needed the room of the second alone.
  expect(step(scheduler, both)).toEqual([0, 33 - 16]);
  while (!scheduler.idle()) step(scheduler, both);
  expect(late.generated).toBe(10);
});

test("who needs another adapter waits for a slot, and others pass", () => {
  const scheduler = createScheduler({ ...options, maxLoras: 2 });
  const [a, b, c] = ["a", "b", "c"].map((lora) => add(scheduler, { lora, output: 2 }));
  const [plain, again] = [add(scheduler), add(scheduler, { lora: "a" })];
  const all = [a, b, c, plain, again].filter((one) => one !== undefined);
  expect(step(scheduler, all)).toEqual([10, 10, 0, 10, 10]);
  expect([scheduler.waiting(), scheduler.deferred()]).toEqual([1, 1]);
  expect(scheduler.loras()).toEqual({ running: ["a", "b"], waiting: ["c"] });
  expect(step(scheduler, all)).toEqual([1, 1, 0, 1, 1]);
  // b has ended: its slot is free.
  expect([scheduler.deferred(), step(scheduler, all)]).toEqual([0, [0, 0, 10, 1, 1]]);
});

test("what is held waits for its release, and can be aborted before", () => {
  const scheduler = createScheduler(options);
  const [held, leaving] = [add(scheduler, { heldSteps: 1 }), add(scheduler, { heldSteps: 1 })];
  expect([scheduler.idle(), scheduler.waiting(), scheduler.deferred()]).toEqual([true, 2, 2]);
  scheduler.abort(leaving);
  expect(scheduler.idle()).toBe(false);
  expect(scheduler.reap()).toEqual([leaving]);
  scheduler.release(leaving);
  scheduler.release(held);
  expect([scheduler.waiting(), scheduler.deferred(), step(scheduler, [held, leaving])]).toEqual([1, 0, [10, 0]]);
});

test("preempted all at once, they compute everything again", () => {
  const scheduler = createScheduler(options);
  const both = [add(scheduler), add(scheduler)];
  step(scheduler, both);
  expect(scheduler.forgetPrefixes()).toBe(false);
  const planned = scheduler.schedule();
  expect(scheduler.preemptAll()).toEqual(both);
  expect(scheduler.forgetPrefixes()).toBe(true);
  expect(scheduler.complete(planned)).toEqual([]);
  expect(step(scheduler, both)).toEqual([11, 11]);
});

test("an abort frees the slot and the memory at the next step, waiting or running", () => {
  const scheduler = createScheduler({ ...options, maxNumSeqs: 1 });
  const [running, waiting, next] = [add(scheduler), add(scheduler), add(scheduler)];
  step(scheduler, [running]);
  scheduler.abort(running);
  scheduler.abort(running);
  scheduler.abort(waiting);
  const planned = scheduler.schedule();
  expect(planned.aborted).toEqual([running, waiting]);
  expect(planned.scheduled).toEqual([next]);
  expect(scheduler.blocksUsed()).toBe(1);
});

test("an abort in the middle of a step takes its token", () => {
  const scheduler = createScheduler(options);
  const one = add(scheduler);
  const planned = scheduler.schedule();
  scheduler.abort(one);
  expect(scheduler.complete(planned)).toEqual([]);
  expect(scheduler.schedule().scheduled).toEqual([]);
  expect([scheduler.idle(), scheduler.blocksUsed()]).toEqual([true, 0]);
});

const limits = fc.record({
  maxLoras: fc.integer({ min: 1, max: 2 }),
  maxNumSeqs: fc.integer({ min: 1, max: 6 }),
  maxNumBatchedTokens: fc.integer({ min: 1, max: 80 }),
  blockSize: fc.constantFrom(1, 4, 16),
  // At least as many as the longest sequence needs alone.
  numBlocks: fc.integer({ min: 100, max: 160 }),
});
const arrivals = fc.array(
  fc.record({
    prompt: fc.integer({ min: 1, max: 60 }),
    output: fc.integer({ min: 1, max: 40 }),
    priority: fc.integer({ min: -1, max: 1 }),
    family: fc.integer({ min: 0, max: 3 }),
    lora: fc.constantFrom(null, null, "a", "b", "c"),
    heldSteps: fc.constantFrom(0, 0, 5),
    atStep: fc.nat({ max: 60 }),
    abortAtStep: fc.option(fc.nat({ max: 90 }), { freq: 3 }),
  }),
  { minLength: 1, maxLength: 25 },
);

test("whatever comes and goes: budget and limits hold, no block leaks, everything ends", () => {
  fc.assert(
    fc.property(limits, arrivals, fc.nat({ max: 60 }), (given, wanted, preemptedAt) => {
      const scheduler = createScheduler(given);
      const live = new Map<(typeof wanted)[number], Sequence>();
      const tokens = new Map<Sequence, number>();
      const stepsMax = 20_000;
      for (let now = 0; now < stepsMax; now++) {
        for (const one of wanted) {
          if (one.atStep === now) live.set(one, add(scheduler, one));
          const sequence = live.get(one);
          if (one.atStep + one.heldSteps === now && sequence) scheduler.release(sequence);
          if (one.abortAtStep === now && sequence) scheduler.abort(sequence);
        }
        if (now === preemptedAt) scheduler.preemptAll();
        const planned = scheduler.schedule();
        const adapters = new Set(planned.scheduled.flatMap(({ spec }) => spec.lora ?? []));
        expect(adapters.size).toBeLessThanOrEqual(given.maxLoras);
        expect(scheduler.deferred()).toBeLessThanOrEqual(scheduler.waiting());
        const total = planned.scheduled.reduce((sum, one) => sum + one.scheduled, 0);
        expect(total).toBe(planned.prefillTokens + planned.decodes);
        expect(total).toBeLessThanOrEqual(given.maxNumBatchedTokens);
        expect(scheduler.running()).toBeLessThanOrEqual(given.maxNumSeqs);
        expect(scheduler.blocksUsed()).toBeLessThanOrEqual(given.numBlocks);
        for (const one of planned.scheduled) {
          expect(one.blocks.length).toBe(Math.ceil((one.computed + one.scheduled) / given.blockSize));
          expect(one.blocks.every((block) => block.references > 0)).toBe(true);
        }
        const got = scheduler.complete(planned);
        for (const one of got) tokens.set(one, (tokens.get(one) ?? 0) + 1);
        if (scheduler.idle() && now > 90) break;
        if (now > 90) expect(planned.scheduled.length).toBeGreaterThan(0);
      }
      expect([scheduler.idle(), scheduler.blocksUsed()]).toEqual([true, 0]);
      for (const [one, sequence] of live) {
        expect(sequence.state).toBe("ended");
        if (one.abortAtStep === null) expect(tokens.get(sequence)).toBe(one.output);
      }
      expect(scheduler.forgetPrefixes()).toBe(true);
    }),
    { numRuns: 200 },
  );
});
