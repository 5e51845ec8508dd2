// A conversation answered by a language model, as a durable task: the answer is streamed to watchers as it is made, and
// when an attempt dies in the middle the next one goes on from what was said where the server can (vLLM), and starts
// again elsewhere. The host calls it for tasks of the model `chat`; which server answers is the host's to decide.
import { defineRunner, t } from "millrace";
import { generate } from "./llm/generate.ts";
import {
  generationFields,
  MAX_ATTEMPTS,
  mayContinue,
  piecesOf,
  TIMEOUT_MS,
  tokensLeft,
  usageSchema,
} from "./llm/generation.ts";
import { type ChatDelta, GrowingMessage, mergeDeltas, type ToolCallDelta } from "./llm/message.ts";

const openObject = (description: string) => t.Object({}, { additionalProperties: true, description });

const message = t.Object(
  {
    role: t.Union(["system", "developer", "user", "assistant", "tool"].map((role) => t.Literal(role))),
    content: t.Optional(t.Union([t.String(), t.Array(openObject("A part, such as `text`")), t.Null()])),
  },
  { additionalProperties: true, description: "A message, with the fields that OpenAI's API gives one of its role." },
);

const toolCall = t.Object({
  id: t.String(),
  type: t.Literal("function"),
  function: t.Object({ name: t.String(), arguments: t.String({ description: "JSON text, as the model wrote it" }) }),
});

const input = t.Object({
  messages: t.Array(message, { minItems: 1, maxItems: 10_000, description: "The conversation, oldest first." }),
  max_completion_tokens: t.Optional(
    t.Integer({ minimum: 1, maximum: 1_000_000, description: "As `max_tokens`, under OpenAI's newer name." }),
  ),
  tools: t.Optional(t.Array(openObject("A function"), { maxItems: 128, description: "Functions to be asked for." })),
  tool_choice: t.Optional(t.Union([t.String(), openObject("A function")])),
  parallel_tool_calls: t.Optional(t.Boolean()),
  response_format: t.Optional(openObject("`text`, `json_object`, or `json_schema` with a JSON Schema.")),
  reasoning_effort: t.Optional(t.String({ maxLength: 32 })),
  ...generationFields,
});

type ChatInput = (typeof input)["static"];

export default defineRunner({
  name: "chat",
  version: "1.0.0",
  summary: "Answers a conversation with a language model, streamed as deltas of content, reasoning and tool calls.",
  input,
  output: t.Object({
    message: t.Object({
      role: t.Literal("assistant"),
      content: t.Union([t.String(), t.Null()]),
      reasoning: t.Optional(t.String({ description: "What the model thought before, where its server tells." })),
      tool_calls: t.Optional(t.Array(toolCall)),
    }),
    finish_reason: t.String({ description: "`stop`, `length`, `tool_calls`, …" }),
    usage: usageSchema,
    model: t.String({ description: "The language model that answered, as in models.yaml." }),
  }),
  example: { messages: [{ role: "user", content: "Say hello." }], max_tokens: 32 },
  slots: 64, // the server batches
  timeoutMs: TIMEOUT_MS,
  maxAttempts: MAX_ATTEMPTS,
  prepare: (asked) => asked,
  infer: (asked, ctx) =>
    generate(asked, ctx, {
      begin: () => new GrowingMessage(),
      mayContinue: (said) => canContinue(asked, said),
      continued: (said) => continued(asked, said),
      ask: (request) => ctx.llm.chat.completions.create({ ...request, messages: asked.messages as never[] }),
      deltasOf: ({ delta }) => deltasOf(delta),
      merge: mergeDeltas,
    }),
  postprocess: ({ said, finish_reason, usage, model }) => ({ message: said.finished(), finish_reason, usage, model }),
});

/** The limit may stand under either name. */
const limitOf = ({ max_tokens, max_completion_tokens, extra }: ChatInput) => {
  const most = max_completion_tokens ?? max_tokens;
  return { ...(most !== undefined && { max_tokens: most }), ...(extra && { extra }) };
};

/** What has a form (calls, JSON) is not whole in the middle, and thoughts are not part of the next prompt. */
function canContinue(asked: ChatInput, said: GrowingMessage): boolean {
  const isFree = !asked.tools?.length && ((asked.response_format as { type?: unknown })?.type ?? "text") === "text";
  const isOpen = asked.messages.at(-1)?.role !== "assistant";
  return isFree && isOpen && said.isText && mayContinue(limitOf(asked), said.tokens);
}

/** The same request to a vLLM, with the answer so far as its last message, to be gone on with. */
function continued(asked: ChatInput, { content, tokens }: GrowingMessage): object {
  const left = tokensLeft(limitOf(asked), tokens);
  return {
    messages: [...asked.messages, { role: "assistant", content }],
    continue_final_message: true,
    add_generation_prompt: false,
    ...left,
    ...(asked.max_completion_tokens !== undefined && { max_completion_tokens: left.max_tokens }),
  };
}

/** What a chunk says, one kind a delta; nothing for its role and for empty texts. */
function deltasOf(delta: object): readonly ChatDelta[] {
  const { content, reasoning, tool_calls } = delta as {
    readonly content?: string | null;
    readonly reasoning?: string | null;
    readonly tool_calls?: readonly ToolCallDelta[];
  };
  return [
    ...piecesOf(reasoning).map((reasoning) => ({ reasoning })),
    ...piecesOf(content).map((content) => ({ content })),
    ...(Array.isArray(tool_calls) ? tool_calls.flatMap(callPieces) : []),
  ];
}

function callPieces({ index, id, type, function: said }: ToolCallDelta): readonly ChatDelta[] {
  const [first = "", ...rest] = piecesOf(said?.arguments);
  const head = { index, ...(id && { id }), ...(type && { type }), function: { ...said, arguments: first } };
  return [head, ...rest.map((text) => ({ index, function: { arguments: text } }))].map((call) => ({
    tool_calls: [call],
  }));
}
