// Tool calls as a model writes them on a bad day: arguments that are no JSON object, in the ways that are met in
// practice. Called for a share of the calls; which ones and how is drawn by the seed. Pure.
import { type ChatRequest, isRecord } from "./chat-request.ts";
import { drawOne, type Rng } from "./rng.ts";
import type { ToolCall } from "./tools.ts";

/** Each makes something else of the text of an object. */
const ways: readonly ((text: string) => string)[] = [
  (text) => text.slice(0, Math.ceil(text.length / 2)),
  (text) => text.slice(0, -1),
  (text) => `${text.slice(0, -1)},}`,
  (text) => `{${text.slice(1).replaceAll('"', "'")}`,
  (text) => text.replace(/"(\w+)":/g, "$1:"),
  (text) => `\`\`\`json\n${text}\n\`\`\``,
  (text) => JSON.stringify(text),
  (text) => `${text}\n\nI have called the function.`,
];

/**
 * The calls, with `share` (0 to 1) of them malformed. As with vLLM only those that nothing constrains: `tool_choice` is
 * auto, and the tool not strict.
 */
export function withMalformed(calls: readonly ToolCall[], request: ChatRequest, share: number, rng: Rng): ToolCall[] {
  const { tool_choice: choice } = request;
  if (share === 0 || (choice != null && choice !== "auto")) return [...calls];
  const strict = strictNames(request.tools);
  return calls.map((call) => (rng() < share && !strict.has(call.name) ? malformed(call, rng) : call));
}

function malformed(call: ToolCall, rng: Rng): ToolCall {
  const text = drawOne(rng, ways)(call.arguments);
  // Some ways leave an empty object as it is.
  return { ...call, arguments: isObject(text) ? call.arguments.slice(0, -1) : text };
}

function isObject(text: string): boolean {
  try {
    return isRecord(JSON.parse(text));
  } catch {
    return false;
  }
}

function strictNames(tools: unknown): ReadonlySet<unknown> {
  const functions = (Array.isArray(tools) ? tools : []).map((tool: unknown) => isRecord(tool) && tool.function);
  return new Set(functions.flatMap((one) => (isRecord(one) && one.strict === true ? [one.name] : [])));
}
