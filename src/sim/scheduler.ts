// Which tokens the next step works on, as vLLM's V1 scheduler decides it. The engine calls schedule() and complete() in
// turns and owns the time between; nothing here waits, draws or looks at a clock, so the same calls give the same steps.
//
//   held ── release ──► waiting ── room in batch and memory, ──► running ── last token ──► ended
//                          ▲        a slot for its adapter         │  │
//                          └── preempted: blocks given back, ──────┘  └── abort, of any ──► ended, at the next reap
//                              all of it computed again
import { type Block, createKvBlocks } from "./kv-blocks.ts";

export interface SequenceSpec {
  readonly promptTokens: number;
  /** Tokens to generate, the end of sequence counted: at least 1. With the prompt at most `maxModelLen`. */
  readonly outputTokens: number;
  /** Lower goes first; equal ones in the order of their arrival. */
  readonly priority: number;
  /** The adapter that it needs; null: the model as it is. */
  readonly lora: string | null;
  /** The hash of block `index`, chained over all before it; asked for blocks full of prompt and answer only. */
  readonly hashOf: (index: number) => bigint;
}

export interface Sequence {
  readonly spec: SequenceSpec;
  readonly arrival: number;
  state: "held" | "waiting" | "running" | "ended";
  /** Tokens of the answer so far. */
  generated: number;
  /** Tokens whose keys and values are in the blocks. */
  computed: number;
  /** Tokens that the current step computes; 0: it does not take part. */
  scheduled: number;
  /** Prompt tokens found in the cache at the first admission; -1 before it. */
  cached: number;
  preemptions: number;
  aborted: boolean;
  blocks: Block[];
  /** Blocks that are full and have their hash. */
  filled: number;
}

export interface SchedulerLimits {
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  /** Adapters of sequences that run at the same time. */
  readonly maxLoras: number;
}

export interface Step {
  /** Sequences that take part. */
  readonly scheduled: readonly Sequence[];
  /** Those that begin, or begin again after a preemption. */
  readonly admitted: readonly Sequence[];
  readonly preempted: readonly Sequence[];
  /** Ended by abort since the last step. */
  readonly aborted: readonly Sequence[];
  readonly prefillTokens: number;
  readonly decodes: number;
  /** Of the prompts that were admitted: tokens looked up in the cache, and found. */
  readonly cacheQueries: number;
  readonly cacheHits: number;
}

export interface Scheduler {
  /** `held`: it does not wait for its turn yet, but for release(). */
  add(spec: SequenceSpec, held?: boolean): Sequence;
  release(sequence: Sequence): void;
  /** Takes effect at the next schedule() or reap(). Idempotent. */
  abort(sequence: Sequence): void;
  /** Ends what was aborted; schedule() begins with it. */
  reap(): Sequence[];
  /** `isDue` leaves out sequences whose next token is not to come yet: they keep, or get, their slot and memory. */
  schedule(isDue?: (sequence: Sequence) => boolean): Step;
  /** The sequences of the step that got a token; those that got their last one are `ended`, their blocks free. */
  complete(step: Step): Sequence[];
  setLimits(limits: SchedulerLimits): void;
  /** Whether schedule() has anything to do. */
  idle(): boolean;
  running(): number;
  /** Held ones too. */
  waiting(): number;
  /** Of those that wait the ones that no free slot or memory helps: held, or without a slot for their adapter. */
  deferred(): number;
  /** Each once. */
  loras(): { readonly running: readonly string[]; readonly waiting: readonly string[] };
  blocksUsed(): number;
  readonly blocksTotal: number;
  /** Takes the memory of all that runs, which is computed again. */
  preemptAll(): Sequence[];
  /** Forgets the prefix cache; false while a sequence has memory. */
  forgetPrefixes(): boolean;
}

export interface SchedulerOptions extends SchedulerLimits {
  readonly blockSize: number;
  readonly numBlocks: number;
}

export function createScheduler(options: SchedulerOptions): Scheduler {
  const { blockSize, numBlocks } = options;
  const kv = createKvBlocks(numBlocks);
  let limits: SchedulerLimits = options;
  let running: Sequence[] = [];
  let waiting: Sequence[] = [];
  let leaving: Sequence[] = [];
  let held = 0;
  let arrivals = 0;

  const goesFirst = (one: Sequence, other: Sequence): number =>
    one.spec.priority - other.spec.priority || one.arrival - other.arrival;

  const enqueue = (sequence: Sequence): void => {
    let at = waiting.length;
    for (let before = waiting[at - 1]; before && goesFirst(sequence, before) < 0; before = waiting[at - 1]) at--;
    waiting.splice(at, 0, sequence);
  };

  const freeBlocks = (sequence: Sequence): void => {
    kv.release(sequence.blocks);
    sequence.blocks = [];
    sequence.filled = 0;
    sequence.computed = 0;
    sequence.scheduled = 0;
  };

  const reap = (): Sequence[] => {
    const gone = leaving;
    if (gone.length === 0) return gone;
    leaving = [];
    for (const sequence of gone) {
      if (sequence.state === "held") held--;
      sequence.state = "ended";
      freeBlocks(sequence);
    }
    running = running.filter((one) => !one.aborted);
    waiting = waiting.filter((one) => !one.aborted);
    return gone;
  };

  /** Room for `count` more tokens of a running sequence, or false. */
  const grow = (sequence: Sequence, count: number): boolean => {
    const needed = Math.ceil((sequence.computed + count) / blockSize) - sequence.blocks.length;
    if (needed > 0) {
      const taken = kv.take([], needed);
      if (taken === null) return false;
      for (const block of taken) sequence.blocks.push(block);
    }
    return true;
  };

  const take = (sequence: Sequence, count: number): void => {
    sequence.scheduled = count;
    const full = Math.floor((sequence.computed + count) / blockSize);
    for (; sequence.filled < full; sequence.filled++) {
      const block = sequence.blocks[sequence.filled];
      if (block) kv.fill(block, sequence.spec.hashOf(sequence.filled));
    }
  };

  const preempt = (victim: Sequence): void => {
    running.splice(running.indexOf(victim), 1);
    // A block that this step was to fill, and now does not, is the first to be taken: nobody finds it.
    freeBlocks(victim);
    victim.state = "waiting";
    victim.preemptions++;
    enqueue(victim);
  };

  /** The one to make room: it goes last by priority, and of equals it came last. */
  const lastOf = (sequences: readonly Sequence[]): Sequence =>
    sequences.reduce((last, one) => (goesFirst(one, last) > 0 ? one : last));

  /** Whether its adapter is in use or has a free slot. */
  const adapterFits = ({ spec: { lora } }: Sequence, inUse: ReadonlySet<string>): boolean =>
    lora === null || inUse.has(lora) || inUse.size < limits.maxLoras;

  /** The first that waits and whose adapter fits: vLLM passes over the others. */
  const nextWaiting = (): Sequence | undefined => {
    const first = waiting[0];
    if (!first || first.spec.lora === null) return first;
    const inUse = adaptersOf(running);
    return waiting.find((one) => adapterFits(one, inUse));
  };

  const admit = (budget: number): { sequence: Sequence; count: number } | null => {
    if (running.length >= limits.maxNumSeqs || budget === 0) return null;
    const sequence = nextWaiting();
    if (!sequence) return null;
    const known = sequence.spec.promptTokens + sequence.generated;
    // The last token is always computed: its result is the next one.
    const found = kv.find(sequence.spec.hashOf, Math.floor((known - 1) / blockSize));
    const cached = found.length * blockSize;
    const count = Math.min(known - cached, budget);
    const blocks = kv.take(found, Math.ceil((cached + count) / blockSize) - found.length);
    if (blocks === null) return null;
    if (sequence === waiting[0]) waiting.shift();
    else waiting.splice(waiting.indexOf(sequence), 1);
    running.push(sequence);
    sequence.state = "running";
    sequence.blocks = blocks;
    sequence.filled = found.length;
    sequence.computed = cached;
    if (sequence.cached < 0) sequence.cached = Math.min(cached, sequence.spec.promptTokens);
    return { sequence, count };
  };

  return {
    blocksTotal: numBlocks,
    idle: () => running.length === 0 && waiting.length === 0 && leaving.length === 0,
    running: () => running.length,
    waiting: () => waiting.length + held,
    deferred() {
      const inUse = adaptersOf(running);
      return held + waiting.reduce((sum, one) => sum + (adapterFits(one, inUse) ? 0 : 1), 0);
    },
    loras: () => ({ running: [...adaptersOf(running)], waiting: [...adaptersOf(waiting)] }),
    blocksUsed: kv.used,
    forgetPrefixes: kv.forget,
    setLimits(next) {
      limits = next;
    },
    add(spec, isHeld = false) {
      const sequence: Sequence = {
        spec,
        arrival: arrivals++,
        state: isHeld ? "held" : "waiting",
        generated: 0,
        computed: 0,
        scheduled: 0,
        cached: -1,
        preemptions: 0,
        aborted: false,
        blocks: [],
        filled: 0,
      };
      if (isHeld) held++;
      else enqueue(sequence);
      return sequence;
    },
    release(sequence) {
      if (sequence.state !== "held" || sequence.aborted) return;
      held--;
      sequence.state = "waiting";
      enqueue(sequence);
    },
    reap,
    preemptAll() {
      const all = [...running];
      for (const sequence of all) preempt(sequence);
      return all;
    },
    abort(sequence) {
      if (sequence.aborted || sequence.state === "ended") return;
      sequence.aborted = true;
      leaving.push(sequence);
    },
    schedule(isDue) {
      const aborted = reap();
      const preempted: Sequence[] = [];
      let budget = limits.maxNumBatchedTokens;
      let scheduled: Sequence[] = [];
      for (const sequence of [...running.filter(isDecode), ...running.filter((one) => !isDecode(one))]) {
        if (budget === 0) break;
        if (isDue && !isDue(sequence)) continue;
        const count = Math.min(sequence.spec.promptTokens + sequence.generated - sequence.computed, budget);
        while (sequence.state === "running" && !grow(sequence, count)) {
          const victim = lastOf(running);
          if (victim.scheduled > 0) {
            budget += victim.scheduled;
            scheduled = scheduled.filter((one) => one !== victim);
          }
          preempt(victim);
          preempted.push(victim);
        }
        if (sequence.state !== "running") continue;
        take(sequence, count);
        scheduled.push(sequence);
        budget -= count;
      }
      const admitted: Sequence[] = [];
      let cacheQueries = 0;
      let cacheHits = 0;
      // What was preempted needs the room that is there now.
      for (let next = preempted.length > 0 ? null : admit(budget); next !== null; next = admit(budget)) {
        const { sequence, count } = next;
        cacheQueries += sequence.spec.promptTokens + sequence.generated;
        cacheHits += sequence.computed;
        admitted.push(sequence);
        if (isDue && !isDue(sequence)) continue;
        take(sequence, count);
        scheduled.push(sequence);
        budget -= count;
      }
      const used = limits.maxNumBatchedTokens - budget;
      const decodes = scheduled.reduce((sum, one) => sum + (isDecode(one) ? 1 : 0), 0);
      return {
        scheduled,
        admitted,
        preempted,
        aborted,
        prefillTokens: used - decodes,
        decodes,
        cacheQueries,
        cacheHits,
      };
    },
    complete({ scheduled }) {
      const got: Sequence[] = [];
      let ended = false;
      for (const sequence of scheduled) {
        const count = sequence.scheduled;
        sequence.scheduled = 0;
        if (sequence.aborted) continue;
        sequence.computed += count;
        if (sequence.computed < sequence.spec.promptTokens + sequence.generated) continue;
        sequence.generated++;
        got.push(sequence);
        if (sequence.generated < sequence.spec.outputTokens) continue;
        sequence.state = "ended";
        freeBlocks(sequence);
        ended = true;
      }
      if (ended) running = running.filter((one) => one.state === "running");
      return got;
    },
  };
}

const adaptersOf = (sequences: readonly Sequence[]): Set<string> =>
  new Set(sequences.flatMap(({ spec }) => spec.lora ?? []));

/** It needs its next token alone. */
const isDecode = ({ generated, computed, spec }: Sequence): boolean =>
  generated > 0 && computed === spec.promptTokens + generated - 1;
