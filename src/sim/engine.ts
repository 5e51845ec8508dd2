// The engine of the simulated server: steps through the scheduler's batches, each as long as the profile says, and tells
// every request of its tokens at the end of the step that made them. In a replay steps take no time, and a request takes
// part in those alone that begin when its next token was recorded. Handlers submit to it, metrics observe it. It knows
// nothing of HTTP and never looks at what the tokens say.
import type { EngineClock } from "./engine-clock.ts";
import { type Profile, stepDurationUs } from "./profile.ts";
import { pickRecorded, type RecordedRequest, type Recording } from "./recording.ts";
import { createRng, type Rng } from "./rng.ts";
import { createScheduler, type Sequence, type Step } from "./scheduler.ts";

export interface GenerationRequest {
  /** Pieces of the prompt; at least one. */
  readonly prompt: readonly string[];
  /** Pieces that will be generated, at least one; the end of sequence is one, of any text. */
  readonly output: readonly string[];
  /** Requests share cached prefixes only with the same salt: model, adapter and `cache_salt`. */
  readonly salt: string;
  /** The adapter that it needs; null: the model as it is. */
  readonly lora: string | null;
  /** Names the grammar that its answer must follow; null: none. */
  readonly grammar: string | null;
  /** Lower goes first. */
  readonly priority: number;
  /** How it ends when it generates all of `output`. */
  readonly finishReason: "stop" | "length";
  /** What its times are drawn from; asked for where something is drawn. */
  seed(): string;
  /** At the end of a step that made token `index` of `output`: once for each, in order. Must not throw. */
  onToken(index: number): void;
  /** The engine gives it up, as when it is put to sleep: no more tokens. Must not throw. */
  onAborted(): void;
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
  /** Of those that wait the ones that no free slot or memory helps. */
  readonly deferred: number;
  readonly blocksUsed: number;
  readonly blocksTotal: number;
}

export interface Engine {
  submit(request: GenerationRequest): Generation;
  /** Whether as many run and wait as may. */
  isFull(): boolean;
  load(): EngineLoad;
  /** The adapters of what runs and of what waits. */
  loras(): { readonly running: readonly string[]; readonly waiting: readonly string[] };
  /** No step begins until resume(); with `abort` all that runs and waits is given up, else it goes on then. Idempotent. */
  pause(abort: boolean): void;
  resume(): void;
  profile(): Profile;
  /** From the next step on. The memory keeps its size: `numBlocks` and `blockSize` must be as they were. */
  setProfile(profile: Profile): void;
  /** False, and nothing happens, while something has memory; `preempting` takes it away, to be computed again. */
  forgetPrefixes(preempting?: boolean): boolean;
  /** No step begins any more; what runs is never told. */
  stop(): void;
}

export interface EngineOptions {
  readonly profile: Profile;
  readonly clock: EngineClock;
  /** How many times faster than the profile. */
  readonly speedup: number;
  /** Times to replay instead of the profile's; null: none. */
  readonly recording: Recording | null;
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
  /** Of a replay: when its next token comes. */
  dueUs: number;
  readonly recorded: RecordedRequest | null;
  random: Rng | null;
}

/** Lateness of the machine's timers that later steps make up for; a longer pause is none of the GPU's. */
const LAG_US_MAX = 5_000;
/** Grammars that need not be compiled again, the last ones first heard of. */
const GRAMMARS_MAX = 1_000;

export function createEngine(options: EngineOptions): Engine {
  const { clock, observer, recording } = options;
  const scheduler = createScheduler(options.profile);
  const live = new Map<Sequence, Live>();
  const grammars = new Set<string>();
  let profile = options.profile;
  let stepping = false;
  let paused = false;
  let stopped = false;
  /** Of a replay: when the engine is woken. */
  let wakeUs = Number.POSITIVE_INFINITY;
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

  const endAborted = (sequences: readonly Sequence[]): void => {
    for (const sequence of sequences) {
      const one = live.get(sequence);
      if (one) ended(one, "abort");
    }
  };

  const announce = (step: Step, nowUs: number): void => {
    endAborted(step.aborted);
    for (const _ of step.preempted) observer.onPreempted();
    for (const sequence of step.admitted) {
      const one = live.get(sequence);
      if (!one || one.startedUs >= 0) continue;
      one.startedUs = nowUs;
      if (one.recorded) one.dueUs = nowUs + one.recorded.ttftUs / options.speedup;
    }
    if (step.cacheQueries > 0) observer.onPrefixCache(step.cacheQueries, step.cacheHits);
    const tokens = step.prefillTokens + step.decodes;
    if (tokens > 0) observer.onStep({ tokens, prefillTokens: step.prefillTokens });
  };

  const durationUs = (step: Step): number => {
    const kvShare = scheduler.blocksUsed() / scheduler.blocksTotal;
    const { prefillTokens, decodes } = step;
    const plainUs = stepDurationUs(profile, { prefillTokens, decodes, running: scheduler.running(), kvShare });
    return (plainUs * jitterOf(step)) / options.speedup;
  };

  /** Drawn for the request that has run longest: alone it takes as long as it ever did alone. */
  const jitterOf = ({ scheduled: [leader] }: Step): number => {
    const one = leader === undefined || profile.jitter === 0 ? undefined : live.get(leader);
    if (!one) return 1;
    one.random ??= createRng(`${one.request.seed()}/steps`);
    return normalFactor(profile.jitter, one.random);
  };

  const begin = (): void => {
    if (stopped) return;
    if (paused) {
      endAborted(scheduler.reap());
      stepping = false;
      return;
    }
    const nowUs = clock.nowUs();
    const isDue = (sequence: Sequence): boolean => (live.get(sequence)?.dueUs ?? 0) <= nowUs + clock.earlyUsMax;
    const step = scheduler.schedule(recording === null ? undefined : isDue);
    announce(step, nowUs);
    if (step.scheduled.length === 0) {
      stepping = false;
      if (recording !== null) wakeAtNextToken();
      return;
    }
    const tookUs = recording === null ? durationUs(step) : 0;
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
      if (one.recorded) {
        const gapUs = recordedGapUs(one.recorded, sequence.generated) / options.speedup;
        one.dueUs = Math.max(one.dueUs, nowUs - LAG_US_MAX) + gapUs;
      }
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

  const wakeAtNextToken = (): void => {
    let nextUs = wakeUs;
    for (const one of live.values()) if (one.dueUs < nextUs) nextUs = one.dueUs;
    if (nextUs >= wakeUs) return;
    wakeUs = nextUs;
    clock.at(nextUs, () => {
      if (wakeUs === nextUs) wakeUs = Number.POSITIVE_INFINITY;
      wake();
    });
  };

  /** How long it takes until the scheduler hears of the request. */
  const holdUs = ({ grammar }: GenerationRequest): number => {
    if (grammar === null || grammars.has(grammar)) return profile.overheadUs;
    grammars.add(grammar);
    if (grammars.size > GRAMMARS_MAX) grammars.delete(grammars.values().next().value ?? grammar);
    return profile.overheadUs + profile.compileUs;
  };

  return {
    submit(request) {
      const { prompt, output, salt, lora, priority } = request;
      const hashOf = chainHashes(prompt, output, salt, profile.blockSize);
      const heldUs = holdUs(request);
      const spec = { promptTokens: prompt.length, outputTokens: output.length, lora, priority, hashOf };
      const sequence = scheduler.add(spec, heldUs > 0);
      const arrivedUs = clock.nowUs();
      const recorded = recording && pickRecorded(recording, prompt.length, createRng(request.seed()));
      const dueUs = recorded === null ? 0 : Number.POSITIVE_INFINITY;
      const unset = { startedUs: -1, firstUs: -1, lastUs: -1, random: null };
      live.set(sequence, { request, sequence, arrivedUs, recorded, dueUs, ...unset });
      if (heldUs === 0) wake();
      else {
        clock.at(arrivedUs + heldUs / options.speedup, () => {
          scheduler.release(sequence);
          wake();
        });
      }
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
      deferred: scheduler.deferred(),
      blocksUsed: scheduler.blocksUsed(),
      blocksTotal: scheduler.blocksTotal,
    }),
    loras: scheduler.loras,
    pause(abort) {
      paused = true;
      if (!abort) return;
      for (const { request, sequence } of [...live.values()]) {
        if (sequence.aborted) continue;
        scheduler.abort(sequence);
        request.onAborted();
      }
      endAborted(scheduler.reap());
    },
    resume() {
      paused = false;
      if (!scheduler.idle()) wake();
    },
    profile: () => profile,
    setProfile(next) {
      if (next.numBlocks !== profile.numBlocks || next.blockSize !== profile.blockSize) {
        throw new RangeError("the memory cannot change its size");
      }
      profile = next;
      scheduler.setLimits(next);
    },
    forgetPrefixes(preempting = false) {
      if (preempting) for (const _ of scheduler.preemptAll()) observer.onPreempted();
      return scheduler.forgetPrefixes();
    },
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

/** The time to the token after the `count`th: an answer longer than the recorded one goes on from its beginning. */
const recordedGapUs = ({ itlUs }: RecordedRequest, count: number): number => itlUs[(count - 1) % itlUs.length] ?? 0;

const JITTER_MAX = 0.7;

/** A factor around 1, drawn from a normal distribution (Box and Muller). */
function normalFactor(deviation: number, random: Rng): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return 1 + Math.min(JITTER_MAX, Math.max(-JITTER_MAX, normal * deviation));
}
