// A conversation as the prompt that the simulated model reads: ChatML, in tokens. It decides what a prompt costs and
// which requests share a prefix, and nothing about the answer. Pure.
import { type ChatMessage, isRecord } from "./chat-request.ts";
import { tokenize } from "./tokenizer.ts";

/** What a picture or a sound costs. */
const MEDIA_TOKENS = 256;

export interface TemplateOptions {
  readonly tools: unknown;
  /** Ends with the opening of the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Leaves the last message open. */
  readonly continueFinalMessage: boolean;
}

/** The pieces of the prompt. */
export function renderChat(messages: readonly ChatMessage[], options: TemplateOptions): string[] {
  const pieces: string[] = [];
  const say = (text: string): void => {
    for (const piece of tokenize(text)) pieces.push(piece);
  };
  const open = (role: string): void => {
    pieces.push("<|im_start|>");
    say(`${role}\n`);
  };
  if (Array.isArray(options.tools) && options.tools.length > 0) {
    open("tools");
    say(JSON.stringify(options.tools));
    pieces.push("<|im_end|>", "\n");
  }
  for (const [index, message] of messages.entries()) {
    open(message.role);
    sayContent(message.content, say, pieces);
    if (Array.isArray(message.tool_calls)) say(JSON.stringify(message.tool_calls));
    if (options.continueFinalMessage && index === messages.length - 1) return pieces;
    pieces.push("<|im_end|>", "\n");
  }
  if (options.addGenerationPrompt) open("assistant");
  return pieces;
}

function sayContent(content: unknown, say: (text: string) => void, pieces: string[]): void {
  if (typeof content === "string") return say(content);
  if (!Array.isArray(content)) return;
  for (const part of content) {
    if (!isRecord(part)) continue;
    if (typeof part.text === "string") say(part.text);
    else {
      // The same picture is the same prefix, another one is not.
      const name = `<|${Bun.hash(JSON.stringify(part))}|>`;
      for (let token = 0; token < MEDIA_TOKENS; token++) pieces.push(name);
    }
  }
}
