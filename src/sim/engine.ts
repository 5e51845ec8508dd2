// The engine of the simulated server: steps through the scheduler's batches, each as long as the profile says, and tells
// every request of its tokens at the end of the step that made them. Handlers submit to it, metrics observe it. It knows
// nothing of HTTP and never looks at what the tokens say.
import type { EngineClock } from "./engine-clock.ts";
import { type Profile, stepDurationUs } from "./profile.ts";
import { createRng } from "./rng.ts";
import { createScheduler, type Sequence, type Step } from "./scheduler.ts";

export interface GenerationRequest {
  /** Pieces of the prompt; at least one. */
  readonly prompt: readonly string[];
  /** Pieces that will be generated, at least one; the end of sequence is one, of any text. */
  readonly output: readonly string[];
  /** Requests share cached prefixes only with the same salt: model, adapter and `cache_salt`. */
  readonly salt: string;
  /** Lower goes first. */
  readonly priority: number;
  /** How it ends when it generates all of `output`. */
  readonly finishReason: "stop" | "length";
  /** At the end of a step that made token `index` of `output`: once for each, in order. Must not throw. */
  onToken(index: number): void;
}

export interface Generation {
  /** Prompt tokens that came from the cache; known once the first token is there. */
  cachedTokens(): number;
  /** Frees its slot and its memory at the start of the next step. Idempotent; nothing after the last token. */
  abort(): void;
}

/** What one request was, once it has ended. Times are 0 for what did not take place. */
export interface GenerationSummary {
  readonly reason: "stop" | "length" | "abort";
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly cachedTokens: number;
  readonly preemptions: number;
  /** From arrival to the first step that works on it. */
  readonly queueUs: number;
  /** From there to the first token. */
  readonly prefillUs: number;
  /** From there to the last. */
  readonly decodeUs: number;
  readonly endToEndUs: number;
}

/** Hears what vLLM's metrics count, for /metrics. Called in the engine's loop: it must be quick and must not throw. */
export interface EngineObserver {
  onStep(step: { readonly tokens: number; readonly prefillTokens: number }): void;
  onPrefixCache(queriedTokens: number, hitTokens: number): void;
  onPreempted(): void;
  onFirstToken(sinceArrivalUs: number): void;
  /** Every token but the first. */
  onNextToken(sinceLastUs: number): void;
  onEnded(summary: GenerationSummary): void;
}

export interface EngineLoad {
  readonly running: number;
  readonly waiting: number;
  readonly blocksUsed: number;
  readonly blocksTotal: number;
}

export interface Engine {
  submit(request: GenerationRequest): Generation;
  /** Whether as many run and wait as may. */
  isFull(): boolean;
  load(): EngineLoad;
  profile(): Profile;
  /** From the next step on. The memory keeps its size: `numBlocks` and `blockSize` must be as they were. */
  setProfile(profile: Profile): void;
  /** False, and nothing happens, while something runs. */
  forgetPrefixes(): boolean;
  /** No step begins any more; what runs is never told. */
  stop(): void;
}

export interface EngineOptions {
  readonly profile: Profile;
  readonly clock: EngineClock;
  /** How many times faster than the profile. */
  readonly speedup: number;
  readonly seed: string;
  readonly observer: EngineObserver;
}

/** A request in the engine. */
interface Live {
  readonly request: GenerationRequest;
  readonly sequence: Sequence;
  readonly arrivedUs: number;
  startedUs: number;
  firstUs: number;
  lastUs: number;
}

/** Lateness of the machine's timers that later steps make up for; a longer pause is none of the GPU's. */
const LAG_US_MAX = 5_000;

export function createEngine(options: EngineOptions): Engine {
  const { clock, observer } = options;
  const scheduler = createScheduler(options.profile);
  const live = new Map<Sequence, Live>();
  const random = createRng(`${options.seed}/steps`);
  let profile = options.profile;
  let stepping = false;
  let stopped = false;
  /** When the last step ended by the profile, whatever the machine's timers made of it. */
  let dueUs = Number.NEGATIVE_INFINITY;

  const ended = (one: Live, reason: GenerationSummary["reason"]): void => {
    live.delete(one.sequence);
    const nowUs = clock.nowUs();
    const { sequence, arrivedUs, startedUs, firstUs } = one;
    observer.onEnded({
      reason,
      promptTokens: sequence.spec.promptTokens,
      generatedTokens: sequence.generated,
      cachedTokens: Math.max(0, sequence.cached),
      preemptions: sequence.preemptions,
      queueUs: (startedUs < 0 ? nowUs : startedUs) - arrivedUs,
      prefillUs: startedUs < 0 ? 0 : (firstUs < 0 ? nowUs : firstUs) - startedUs,
      decodeUs: firstUs < 0 ? 0 : nowUs - firstUs,
      endToEndUs: nowUs - arrivedUs,
    });
  };

  const announce = (step: Step, nowUs: number): void => {
    for (const sequence of step.aborted) {
      const one = live.get(sequence);
      if (one) ended(one, "abort");
    }
    for (const _ of step.preempted) observer.onPreempted();
    for (const sequence of step.admitted) {
      const one = live.get(sequence);
      if (one && one.startedUs < 0) one.startedUs = nowUs;
    }
    if (step.cacheQueries > 0) observer.onPrefixCache(step.cacheQueries, step.cacheHits);
    const tokens = step.prefillTokens + step.decodes;
    if (tokens > 0) observer.onStep({ tokens, prefillTokens: step.prefillTokens });
  };

  const durationUs = (step: Step): number => {
    const kvShare = scheduler.blocksUsed() / scheduler.blocksTotal;
    const { prefillTokens, decodes } = step;
    const plainUs = stepDurationUs(profile, { prefillTokens, decodes, running: scheduler.running(), kvShare });
    if (plainUs === 0) return 0;
    return (plainUs * jitterOf(profile.jitter, random)) / options.speedup;
  };

  const begin = (): void => {
    if (stopped) return;
    const nowUs = clock.nowUs();
    const step = scheduler.schedule();
    announce(step, nowUs);
    if (step.scheduled.length === 0) {
      stepping = false;
      return;
    }
    const tookUs = durationUs(step);
    dueUs = Math.max(dueUs, nowUs - LAG_US_MAX) + tookUs;
    if (tookUs === 0) finish(step);
    else clock.at(dueUs, () => finish(step));
  };

  const finish = (step: Step): void => {
    if (stopped) return;
    const nowUs = clock.nowUs();
    for (const sequence of scheduler.complete(step)) {
      const one = live.get(sequence);
      if (!one) continue;
      if (one.firstUs < 0) {
        one.firstUs = nowUs;
        observer.onFirstToken(nowUs - one.arrivedUs);
      } else observer.onNextToken(nowUs - one.lastUs);
      one.lastUs = nowUs;
      const index = sequence.generated - 1;
      if (sequence.state === "ended") ended(one, one.request.finishReason);
      one.request.onToken(index);
    }
    if (scheduler.idle()) stepping = false;
    else clock.at(dueUs, begin);
  };

  /** Called back later, so that requests that arrive together share their first step. */
  const wake = (): void => {
    if (stepping || stopped) return;
    stepping = true;
    dueUs = clock.nowUs();
    clock.at(dueUs, begin);
  };

  return {
    submit(request) {
      const { prompt, output, salt, priority } = request;
      const hashOf = chainHashes(prompt, output, salt, profile.blockSize);
      const spec = { promptTokens: prompt.length, outputTokens: output.length, priority, hashOf };
      const sequence = scheduler.add(spec);
      live.set(sequence, { request, sequence, arrivedUs: clock.nowUs(), startedUs: -1, firstUs: -1, lastUs: -1 });
      wake();
      return {
        cachedTokens: () => Math.max(0, sequence.cached),
        abort() {
          scheduler.abort(sequence);
          if (!scheduler.idle()) wake();
        },
      };
    },
    isFull: () => live.size >= profile.maxWaiting + profile.maxNumSeqs,
    load: () => ({
      running: scheduler.running(),
      waiting: scheduler.waiting(),
      blocksUsed: scheduler.blocksUsed(),
      blocksTotal: scheduler.blocksTotal,
    }),
    profile: () => profile,
    setProfile(next) {
      if (next.numBlocks !== profile.numBlocks || next.blockSize !== profile.blockSize) {
        throw new RangeError("the memory cannot change its size");
      }
      profile = next;
      scheduler.setLimits(next);
    },
    forgetPrefixes: () => scheduler.forgetPrefixes(),
    stop() {
      stopped = true;
    },
  };
}

/** The hash of each block over its tokens and all before them; made when asked for, each once. */
function chainHashes(prompt: readonly string[], output: readonly string[], salt: string, blockSize: number) {
  const hashes: bigint[] = [];
  const root = BigInt(Bun.hash(salt));
  return (index: number): bigint => {
    for (let block = hashes.length; block <= index; block++) {
      const from = block * blockSize;
      const inOutput = Math.max(0, from - prompt.length);
      const pieces = prompt.slice(from, from + blockSize);
      const rest = blockSize - pieces.length;
      // A sign that no piece ends with keeps `ab|c` and `a|bc` apart.
      const text = [...pieces, ...output.slice(inOutput, inOutput + rest)].join("\u0000|");
      hashes.push(BigInt(Bun.hash(text, hashes[block - 1] ?? root)));
    }
    return hashes[index] ?? root;
  };
}

const JITTER_MAX = 0.7;

/** A factor around 1, drawn from a normal distribution (Box and Muller). */
function jitterOf(deviation: number, random: () => number): number {
  if (deviation === 0) return 1;
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return 1 + Math.min(JITTER_MAX, Math.max(-JITTER_MAX, normal * deviation));
}
