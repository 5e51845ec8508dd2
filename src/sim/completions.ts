// `/v1/completions`: texts that are gone on with, one or many in a request. What is said is what a chat with the text as
// its only message would be told.
import { composeFor, requestIdOf } from "./chat.ts";
import { isRecord } from "./chat-request.ts";
import { generate, refuseFull, uncached } from "./generate.ts";
import { refuseGuided } from "./guided.ts";
import { checkPromptEntries, readPromptLogprobs, readTextLogprobs } from "./logprobs.ts";
import { planAnswer } from "./plan.ts";
import type { Exchange, JsonBody, Route, Simulation } from "./routes.ts";
import { CHOICES_MAX, checkForced, readFlag, readSampling, roomFor } from "./sampling.ts";
import { servedModel } from "./served-models.ts";
import { textSender } from "./text-sender.ts";
import { pieceOf, tokenize } from "./tokenizer.ts";
import { WireError } from "./wire-error.ts";

export const completionRoutes: readonly Route[] = [
  { method: "POST", path: "/v1/completions", body: "json", handle: answerCompletion },
];

/** OpenAI's own; chat has none. */
const MAX_TOKENS_DEFAULT = 16;

function answerCompletion(exchange: Exchange, simulation: Simulation): Response | Promise<Response> {
  const { body } = exchange;
  const model = servedModel(body, simulation.models);
  if (body.suffix != null) throw new WireError(400, "suffix is not currently supported", "suffix");
  refuseGuided(body, simulation);
  const echo = readFlag(body, "echo");
  const given = readSampling(body, ["max_tokens"], echo ? 0 : 1);
  // As vLLM, where a request for nothing but its prompt makes a token that is counted and not told.
  const promptOnly = given.maxTokens === 0;
  const maxTokens = promptOnly ? 1 : (given.maxTokens ?? Math.max(MAX_TOKENS_DEFAULT, given.minTokens));
  const sampling = { ...given, maxTokens };
  const prompts = readPrompts(body.prompt);
  const topLogprobs = readTextLogprobs(body);
  const topPromptLogprobs = readPromptLogprobs(body, echo ? topLogprobs : null);
  refuseFull(simulation);
  if (prompts.length * sampling.n > CHOICES_MAX) {
    throw new WireError(400, `at most ${CHOICES_MAX} choices, of all prompts together`, "prompt");
  }
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  if (topPromptLogprobs !== null) {
    const topTold = Math.max(topPromptLogprobs, echo ? (topLogprobs ?? 0) : 0);
    checkPromptEntries(promptTokens * sampling.n, topTold);
  }
  const options = simulation.answers.optionsOf(exchange);
  const { maxModelLen } = simulation.engine.profile();
  const plans = prompts.flatMap((prompt) => {
    const room = roomFor(prompt.length, sampling.maxTokens, maxModelLen);
    checkForced(sampling, room, prompts.length * sampling.n);
    const { response_format, structured_outputs } = body;
    const messages = [{ role: "user", content: prompt.join("") }];
    const request = { messages, response_format, structured_outputs };
    return Array.from({ length: sampling.n }, (_, choice) => {
      const { parts } = composeFor(request, sampling, { seed: simulation.seed, options }, choice);
      const text = parts.map((part) => (part.kind === "content" ? part.text : "")).join("");
      return planAnswer({ parts: [{ kind: "content", text }], finishReason: "stop" }, sampling, room);
    });
  });
  const sender = textSender({
    id: `cmpl-${requestIdOf(exchange)}`,
    model,
    fingerprint: simulation.fingerprint,
    sampling,
    plans,
    prompts,
    echo,
    promptOnly,
    topLogprobs,
    topPromptLogprobs,
  });
  const salt = topPromptLogprobs === null ? model : uncached(model);
  return generate({ simulation, exchange, sampling, prompts, plans, salt, sender });
}

/** A text, texts, the ids of a text's tokens, or lists of them. */
function readPrompts(prompt: JsonBody[string]): readonly (readonly string[])[] {
  const list = Array.isArray(prompt) ? prompt : [prompt];
  const prompts = list.length > 0 && list.every(isId) ? [list.map(pieceOf)] : list.map(readPrompt);
  if (prompts.length === 0 || prompts.some((pieces) => pieces.length === 0)) {
    throw new WireError(400, "Either prompt or prompt_embeds must be provided and non-empty.", "prompt");
  }
  return prompts;
}

function readPrompt(prompt: unknown): readonly string[] {
  if (typeof prompt === "string") return tokenize(prompt);
  if (Array.isArray(prompt) && prompt.every(isId)) return prompt.map(pieceOf);
  if (isRecord(prompt)) throw new WireError(400, "a prompt must be a text or a list of token ids", "prompt");
  throw new WireError(400, "prompt must be a text, a list of texts, or lists of token ids", "prompt");
}

const isId = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
