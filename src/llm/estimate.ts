// How many tokens a prompt may have, before any server has counted them: for reserving, and for answers that were cut
// short. Rough by nature: four characters a token, which is what English has; pictures and sound count nothing.
import type { LlmBody } from "./llm.ts";

const CHARS_PER_TOKEN = 4;
/** Beyond it the walk ends: a body has at most some megabytes, and a walk must not cost more than the call. */
const DEPTH_MAX = 8;

export function estimatePromptTokens(body: LlmBody): number {
  if (body.kind === "form") return 0;
  const { messages, prompt, input, tools } = body.value;
  const chars = charsOf(messages, 0) + charsOf(prompt, 0) + charsOf(input, 0) + charsOf(tools, 0);
  return Math.ceil(chars / CHARS_PER_TOKEN);
}

/** Characters of the texts in `value`; a number in a list is a token. */
function charsOf(value: unknown, depth: number): number {
  if (typeof value === "string") return value.startsWith("data:") ? 0 : value.length;
  if (typeof value === "number") return CHARS_PER_TOKEN;
  if (typeof value !== "object" || value === null || depth > DEPTH_MAX) return 0;
  let chars = 0;
  for (const name in value) chars += charsOf((value as Record<string, unknown>)[name], depth + 1);
  return chars;
}
