// Decides what the simulator answers to a chat request: text, tool calls or structured output. The engine calls it
// once for every choice and streams the parts. It is pure: the same request and seed give the same answer.
import { type ChatRequest, isRecord, lastTextOf } from "./chat-request.ts";
import type { Rng } from "./rng.ts";
import { randomText } from "./text/draft.ts";
import { languageOf } from "./text/language.ts";
import { composeReply } from "./text/reply.ts";
import { readConversation } from "./text/statements.ts";

export type AnswerPart =
  | { readonly kind: "reasoning" | "content"; readonly text: string }
  /** `arguments` is the text of a JSON object that conforms to the tool's parameters. */
  | { readonly kind: "tool_call"; readonly id: string; readonly name: string; readonly arguments: string };

/** In the order in which it is said; at least one part. */
export interface Answer {
  readonly parts: readonly AnswerPart[];
  readonly finishReason: "stop" | "tool_calls";
}

/**
 * The whole answer, before `stop` and `max_tokens` cut it. `rng` is this choice's own: hash of seed and choice index.
 * Throws ContentError (a 400) for what cannot be answered.
 */
export function composeAnswer(request: ChatRequest, rng: Rng): Answer {
  return { parts: [{ kind: "content", text: textFor(request, rng) }], finishReason: "stop" };
}

function textFor(request: ChatRequest, rng: Rng): string {
  const mode = isRecord(request.vllm_xargs) ? request.vllm_xargs.sim_mode : undefined;
  const asked = lastTextOf(request.messages, "user");
  if (mode === "echo" && asked !== "") return asked;
  if (mode === "random") return randomText(languageOf(asked), rng);
  return composeReply(readConversation(request.messages), rng);
}
