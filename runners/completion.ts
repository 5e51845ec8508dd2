// A text continued by a language model, as a durable task: streamed to watchers as it is made, and gone on with by the
// next attempt when one dies in the middle, where the server can (vLLM). The host calls it for tasks of the model
// `completion`; it never wraps the text into a conversation.
import { defineRunner, t } from "millrace";
import { type Delta, type Growing, generate } from "./llm/generate.ts";
import {
  generationFields,
  MAX_ATTEMPTS,
  mayContinue,
  piecesOf,
  TIMEOUT_MS,
  tokensLeft,
  usageSchema,
} from "./llm/generation.ts";

const input = t.Object({
  prompt: t.String({ minLength: 1, description: "The text to be continued." }),
  ...generationFields,
});

/** A piece of the text, or the end. */
interface TextDelta extends Delta {
  readonly text?: string;
}

class GrowingText implements Growing<TextDelta> {
  text = "";
  tokens = 0;

  add({ text = "", tokens = 0 }: TextDelta): void {
    this.text += text;
    this.tokens += tokens;
  }
}

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
  infer: (asked, ctx) =>
    generate(asked, ctx, {
      begin: () => new GrowingText(),
      mayContinue: (said) => mayContinue(asked, said.tokens),
      continued: ({ text, tokens }) => ({ prompt: asked.prompt + text, ...tokensLeft(asked, tokens) }),
      ask: (request) => ctx.llm.completions.create({ ...request, prompt: asked.prompt }),
      deltasOf: ({ text }) => piecesOf(text).map((text): TextDelta => ({ text })),
      merge: mergeTexts,
    }),
  postprocess: ({ said, finish_reason, usage, model }) => ({ text: said.text, finish_reason, usage, model }),
});
