// Decides what the simulator answers to a chat request: text, tool calls or structured output. The engine calls it
// once for every choice and streams the parts. It is pure: the same request and seed give the same answer.
import { type ChatRequest, lastTextOf } from "./chat-request.ts";
import type { Rng } from "./rng.ts";

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
  const question = lastTextOf(request.messages, "user");
  const opening = rng() < 0.5 ? "You asked" : "Your question was";
  return { parts: [{ kind: "content", text: `${opening}: ${question}` }], finishReason: "stop" };
}
