// The message of a chat as it grows: deltas, as watchers get them, put together. chat.ts feeds it with what the server
// sends and with what an earlier attempt had sent. It knows text, reasoning and calls, and never guesses at the rest.
import type { Delta } from "./generate.ts";

export interface ToolCallDelta {
  /** Which call of the message. */
  readonly index: number;
  readonly id?: string;
  readonly type?: "function";
  /** `arguments` is a piece of JSON text. */
  readonly function?: { readonly name?: string; readonly arguments?: string };
}

/** One of `content`, `reasoning` and `tool_calls`, or the end. */
export interface ChatDelta extends Delta {
  readonly content?: string;
  readonly reasoning?: string;
  readonly tool_calls?: readonly ToolCallDelta[];
}

export interface ToolCall {
  readonly id: string;
  readonly type: "function";
  readonly function: { readonly name: string; readonly arguments: string };
}

export interface Message {
  readonly role: "assistant";
  readonly content: string | null;
  readonly reasoning?: string;
  readonly tool_calls?: ToolCall[];
}

/** No model calls more at once; an index beyond it is damage. */
const CALLS_MAX = 128;

export class GrowingMessage {
  content = "";
  reasoning = "";
  tokens = 0;
  readonly #calls: { id: string; name: string; arguments: string }[] = [];

  add(delta: ChatDelta): void {
    this.content += delta.content ?? "";
    this.reasoning += delta.reasoning ?? "";
    this.tokens += delta.tokens ?? 0;
    for (const call of delta.tool_calls ?? []) this.#addCall(call);
  }

  /** Nothing but text was said. */
  get isText(): boolean {
    return this.reasoning === "" && this.#calls.length === 0;
  }

  finished(): Message {
    const calls = this.#calls.filter(({ name }) => name !== "");
    return {
      role: "assistant",
      content: this.content === "" && calls.length > 0 ? null : this.content,
      ...(this.reasoning !== "" && { reasoning: this.reasoning }),
      ...(calls.length > 0 && {
        tool_calls: calls.map(({ id, name, arguments: text }) => ({
          id,
          type: "function" as const,
          function: { name, arguments: text },
        })),
      }),
    };
  }

  #addCall({ index, id, function: said }: ToolCallDelta): void {
    if (!Number.isInteger(index) || index < 0 || index >= CALLS_MAX) return;
    while (this.#calls.length <= index) this.#calls.push({ id: "", name: "", arguments: "" });
    const call = this.#calls[index];
    if (!call) return;
    call.id ||= id ?? "";
    call.name += said?.name ?? "";
    call.arguments += said?.arguments ?? "";
  }
}

/** Two deltas as one, where they go on with the same thing. */
export function mergeDeltas(earlier: ChatDelta, later: ChatDelta): ChatDelta | null {
  const tokens = (earlier.tokens ?? 0) + (later.tokens ?? 0);
  if (earlier.finish_reason !== undefined || later.finish_reason !== undefined) return null;
  if (earlier.content !== undefined && later.content !== undefined) {
    return { content: earlier.content + later.content, tokens };
  }
  if (earlier.reasoning !== undefined && later.reasoning !== undefined) {
    return { reasoning: earlier.reasoning + later.reasoning, tokens };
  }
  if (earlier.tool_calls && later.tool_calls)
    return { tool_calls: mergeCalls(earlier.tool_calls, later.tool_calls), tokens };
  return null;
}

/** Pieces of the arguments of one call as one piece. */
function mergeCalls(earlier: readonly ToolCallDelta[], later: readonly ToolCallDelta[]): readonly ToolCallDelta[] {
  const calls = [...earlier];
  for (const call of later) {
    const last = calls.at(-1);
    if (last?.index !== call.index || call.id !== undefined || call.function?.name !== undefined) {
      calls.push(call);
      continue;
    }
    const text = (last.function?.arguments ?? "") + (call.function?.arguments ?? "");
    calls[calls.length - 1] = { ...last, function: { ...last.function, arguments: text } };
  }
  return calls;
}
