// `/tokenize` and `/detokenize`, as vLLM's: how many tokens a text or a conversation has for this simulator, and which.

import type { ChatMessage } from "./chat-request.ts";
import { isRecord } from "./chat-request.ts";
import { renderChat } from "./chat-template.ts";
import { jsonResponse } from "./json-response.ts";
import type { Exchange, JsonBody, Route, Simulation } from "./routes.ts";
import { readFlag } from "./sampling.ts";
import { servedModel } from "./served-models.ts";
import { detokenize, idOf, tokenize } from "./tokenizer.ts";
import { WireError } from "./wire-error.ts";

export const tokenRoutes: readonly Route[] = [
  { method: "POST", path: "/tokenize", body: "json", handle: answerTokenize },
  { method: "POST", path: "/detokenize", body: "json", handle: answerDetokenize },
];

function answerTokenize({ body }: Exchange, { models, engine }: Simulation): Response {
  servedModel(body, models);
  const pieces = readPieces(body);
  return jsonResponse({
    count: pieces.length,
    max_model_len: engine.profile().maxModelLen,
    tokens: pieces.map(idOf),
    token_strs: readFlag(body, "return_token_strs") ? pieces : null,
  });
}

function readPieces(body: JsonBody): readonly string[] {
  const { prompt, messages } = body;
  if (typeof prompt === "string") return tokenize(prompt);
  const isMessage = (message: unknown): boolean => isRecord(message) && typeof message.role === "string";
  if (!Array.isArray(messages) || !messages.every(isMessage)) {
    throw new WireError(400, "prompt must be a text, or messages a list of messages", "prompt");
  }
  return renderChat(messages as ChatMessage[], {
    tools: body.tools,
    addGenerationPrompt: body.add_generation_prompt == null || readFlag(body, "add_generation_prompt"),
    continueFinalMessage: readFlag(body, "continue_final_message"),
  });
}

function answerDetokenize({ body }: Exchange, { models }: Simulation): Response {
  servedModel(body, models);
  const { tokens } = body;
  const isId = (token: unknown): boolean => Number.isSafeInteger(token) && (token as number) >= 0;
  if (!Array.isArray(tokens) || !tokens.every(isId)) throw new WireError(400, "tokens must be ids", "tokens");
  return jsonResponse({ prompt: detokenize(tokens as number[]) });
}
