// An answer of a language model as a durable task makes it: streamed to watchers, gone on with where an earlier attempt
// has died and the server can (vLLM), begun again elsewhere. chat.ts and completion.ts call it and say what an answer
// of theirs is made of; it never looks into a delta but at its end.
import { type RunnerContext, RunnerError } from "millrace";
import { tokenCounter, type Usage, usageWith } from "./generation.ts";

/** What is counted in a delta, and what stands in the last one. */
export interface Delta extends Partial<AnswerEnd> {
  /** Tokens in this delta. */
  readonly tokens?: number;
}

export interface AnswerEnd {
  readonly finish_reason: string;
  readonly usage: Usage;
  /** The language model that answered, as in models.yaml. */
  readonly model: string;
}

/** The answer so far: deltas, as watchers get them, put together. */
export interface Growing<D extends Delta> {
  readonly tokens: number;
  add(delta: D): void;
}

/** What a client of the `openai` package gives for a stream that it has been asked for. */
interface Answering<Choice> {
  withResponse(): Promise<{ readonly data: AsyncIterable<Chunk<Choice>>; readonly response: Response }>;
}
interface Chunk<Choice> {
  readonly usage?: Omit<Usage, "total_tokens"> | null;
  readonly choices: readonly (Choice & { readonly finish_reason?: unknown })[];
}

/** One kind of answer. */
export interface Generation<D extends Delta, Said extends Growing<D>, Choice> {
  begin(): Said;
  /** Whether a server may be asked to go on from `said`. */
  mayContinue(said: Said): boolean;
  /** The fields of the request that ask a vLLM for it. */
  continued(said: Said): object;
  /** `request` has all fields that were asked for; the type says what is in it always. */
  ask(request: { readonly model: string; readonly stream: true }): Answering<Choice>;
  /** What a chunk says, in pieces that may be emitted. */
  deltasOf(choice: Choice): readonly D[];
  merge(earlier: D, later: D): D | null;
}

interface Asked {
  readonly model?: string;
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** Asks for usage in a stream, and vLLM for it in every chunk: a count of chunks is not one of tokens. */
const streamOptions = { stream: true, stream_options: { include_usage: true } } as const;
const vllmStreamOptions = { stream_options: { include_usage: true, continuous_usage_stats: true } } as const;

/** Throws `upstream_failed` for a stream that ended without its last words: worth another attempt. */
export async function generate<D extends Delta, Said extends Growing<D>, Choice>(
  asked: Asked,
  ctx: RunnerContext<unknown>,
  generation: Generation<D, Said, Choice>,
): Promise<{ readonly said: Said } & AnswerEnd> {
  const earlier = (await ctx.earlierDeltas()) as readonly D[];
  const before = generation.begin();
  for (const delta of earlier) before.add(delta);
  const { finish_reason, usage, model } = earlier.at(-1) ?? {};
  if (finish_reason !== undefined && usage && model !== undefined) {
    ctx.continueDeltas(); // all was said, only its result was not kept
    return { said: before, finish_reason, usage, model };
  }
  return answer(asked, ctx, generation, generation.mayContinue(before) ? before : null);
}

async function answer<D extends Delta, Said extends Growing<D>, Choice>(
  { extra, model = "", ...fields }: Asked,
  ctx: RunnerContext<unknown>,
  { begin, continued, ask, deltasOf, merge }: Generation<D, Said, Choice>,
  before: Said | null,
): Promise<{ readonly said: Said } & AnswerEnd> {
  const vllm = { ...vllmStreamOptions, ...(before && continued(before)) };
  const request = { ...extra, ...fields, ...streamOptions, model, vllm };
  const { data, response } = await ask(request).withResponse();
  const goesOn = before !== null && response.headers.get("x-millrace-provider-kind") === "vllm";
  if (goesOn) ctx.continueDeltas();
  const said = goesOn ? before : begin();
  const tokensBefore = said.tokens;
  const count = tokenCounter();
  let finishReason: string | null = null;
  let usage: Omit<Usage, "total_tokens"> | null = null;
  for await (const chunk of data) {
    usage = chunk.usage ?? usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    for (const delta of deltasOf(choice)) {
      const counted = { ...delta, tokens: count(chunk.usage) };
      said.add(counted);
      ctx.emit<D>(counted, merge);
    }
    if (typeof choice.finish_reason === "string") finishReason = choice.finish_reason;
  }
  if (finishReason === null) {
    throw new RunnerError("upstream_failed", "The model server ended its answer without a reason");
  }
  const end = {
    finish_reason: finishReason,
    usage: usageWith(usage ?? { prompt_tokens: 0, completion_tokens: said.tokens - tokensBefore }, tokensBefore),
    model: response.headers.get("x-millrace-model") ?? "",
  };
  ctx.emit(end);
  return { said, ...end };
}
