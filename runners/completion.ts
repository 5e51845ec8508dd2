// A text continued by a language model, as a durable task: streamed to watchers as it is made, and gone on with by the
// next attempt when one dies in the middle, where the server can (vLLM). The host calls it for tasks of the model
// `completion`; it never wraps the text into a conversation.
import { defineRunner, type RunnerContext, t } from "millrace";
import {
  generationFields,
  MAX_ATTEMPTS,
  mayContinue,
  piecesOf,
  streamOptions,
  TIMEOUT_MS,
  tokenCounter,
  tokensLeft,
  type Usage,
  unfinished,
  usageSchema,
  usageWith,
  vllmStreamOptions,
} from "./llm/generation.ts";

const input = t.Object({
  prompt: t.String({ minLength: 1, description: "The text to be continued." }),
  ...generationFields,
});
type CompletionInput = (typeof input)["static"];

/** A piece of the text, or the end. */
interface TextDelta {
  readonly text?: string;
  readonly tokens?: number;
  readonly finish_reason?: string;
  readonly usage?: Usage;
  readonly model?: string;
}

interface Said {
  readonly text: string;
  readonly tokens: number;
}

const nothing: Said = { text: "", tokens: 0 };

const mergeTexts = (earlier: TextDelta, later: TextDelta): TextDelta | null =>
  earlier.text === undefined || later.text === undefined
    ? null
    : { text: earlier.text + later.text, tokens: (earlier.tokens ?? 0) + (later.tokens ?? 0) };

export default defineRunner({
  name: "completion",
  version: "1.0.0",
  summary: "Continues a text with a language model, streamed as deltas of text.",
  input,
  output: t.Object({
    text: t.String({ description: "The continuation, without the prompt." }),
    finish_reason: t.String({ description: "`stop` or `length`." }),
    usage: usageSchema,
    model: t.String({ description: "The language model that answered, as in models.yaml." }),
  }),
  example: { prompt: "Once upon a time", max_tokens: 32 },
  slots: 64, // the server batches
  timeoutMs: TIMEOUT_MS,
  maxAttempts: MAX_ATTEMPTS,
  prepare: (asked) => asked,
  infer: async (asked, ctx) => {
    const earlier = (await ctx.earlierDeltas()) as readonly TextDelta[];
    const { text = "", tokens = 0 } = earlier.reduce(
      (said, { text, tokens }) => ({
        text: (said.text ?? "") + (text ?? ""),
        tokens: (said.tokens ?? 0) + (tokens ?? 0),
      }),
      nothing,
    );
    const { finish_reason, usage, model } = earlier.at(-1) ?? {};
    if (finish_reason !== undefined && usage && model !== undefined) {
      ctx.continueDeltas(); // all was said, only its result was not kept
      return { text, finish_reason, usage, model };
    }
    return complete(asked, mayContinue(asked, tokens) ? { text, tokens } : nothing, ctx);
  },
  postprocess: (answer) => answer,
});

async function complete(asked: CompletionInput, said: Said, ctx: RunnerContext<unknown>) {
  const { extra, model = "", ...fields } = asked;
  const rest = { prompt: asked.prompt + said.text, ...tokensLeft(asked, said.tokens) };
  const request = { ...extra, ...fields, ...streamOptions, model, vllm: { ...vllmStreamOptions, ...rest } };
  const { data, response } = await ctx.llm.completions.create(request).withResponse();
  const goesOn = said.tokens > 0 && response.headers.get("x-millrace-provider-kind") === "vllm";
  if (goesOn) ctx.continueDeltas();
  const before = goesOn ? said : nothing;
  const count = tokenCounter();
  let { text, tokens } = before;
  let finishReason: string | null = null;
  let usage: Omit<Usage, "total_tokens"> | null = null;
  for await (const chunk of data) {
    usage = chunk.usage ?? usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    for (const piece of piecesOf(choice.text)) {
      const delta = { text: piece, tokens: count(chunk.usage) };
      text += delta.text;
      tokens += delta.tokens;
      ctx.emit(delta, mergeTexts);
    }
    finishReason = choice.finish_reason ?? finishReason;
  }
  if (finishReason === null) throw unfinished();
  const end = {
    finish_reason: finishReason,
    usage: usageWith(usage ?? { prompt_tokens: 0, completion_tokens: tokens - before.tokens }, before.tokens),
    model: response.headers.get("x-millrace-model") ?? "",
  };
  ctx.emit(end);
  return { text, ...end };
}
