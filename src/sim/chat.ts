// `/v1/chat/completions`: checks a request, has its answer composed and planned, and sends what the engine makes of it,
// as a stream or whole. The body decides the answer, the engine the time.
import { type Answer, type AnswerPart, composeAnswer } from "./answer.ts";
import { withoutWords } from "./bad-words.ts";
import { type ChatMessage, type ChatRequest, ContentError, isRecord, textOf } from "./chat-request.ts";
import { chatSender } from "./chat-sender.ts";
import { renderChat } from "./chat-template.ts";
import { generate, refuseFull, uncached } from "./generate.ts";
import { refuseGuided } from "./guided.ts";
import { checkPromptEntries, readChatLogprobs, readPromptLogprobs } from "./logprobs.ts";
import type { AnswerOptions } from "./modes/mode.ts";
import { planAnswer } from "./plan.ts";
import { createRng } from "./rng.ts";
import type { Exchange, JsonBody, Route, Simulation } from "./routes.ts";
import { checkForced, readFlag, readSampling, roomFor, type Sampling } from "./sampling.ts";
import { servedModel } from "./served-models.ts";
import { readConstraint } from "./structured.ts";
import { WireError } from "./wire-error.ts";

export const chatRoutes: readonly Route[] = [
  { method: "POST", path: "/v1/chat/completions", body: "json", handle: answerChat },
];

/** A message may hold much, a conversation of more is none. */
const MESSAGES_MAX = 100_000;

function answerChat(exchange: Exchange, simulation: Simulation): Response | Promise<Response> {
  const { body } = exchange;
  const model = servedModel(body, simulation.models);
  refuseGuided(body, simulation);
  const sampling = readSampling(body, ["max_completion_tokens", "max_tokens"]);
  refuseFull(simulation);
  const echo = readFlag(body, "echo");
  const topLogprobs = readChatLogprobs(body);
  const topPromptLogprobs = readPromptLogprobs(body, echo ? (topLogprobs ?? 0) : null);
  const messages = readMessages(body);
  const continued = readFlag(body, "continue_final_message");
  const addGenerationPrompt = body.add_generation_prompt == null || readFlag(body, "add_generation_prompt");
  if (continued && addGenerationPrompt) {
    throw new WireError(400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
  }
  const prompt = renderChat(messages, { tools: body.tools, addGenerationPrompt, continueFinalMessage: continued });
  const room = roomFor(prompt.length, sampling.maxTokens, simulation.engine.profile().maxModelLen);
  checkForced(sampling, room, sampling.n);
  if (topPromptLogprobs !== null) checkPromptEntries(prompt.length, topPromptLogprobs);
  const last = messages.at(-1);
  const prefix = continued && last?.role === "assistant" ? textOf(last) : null;
  const request: ChatRequest = { ...body, messages: prefix === null ? messages : messages.slice(0, -1) };
  const thinks = body.include_reasoning == null || readFlag(body, "include_reasoning");
  const options = simulation.answers.optionsOf(exchange);
  const plans = Array.from({ length: sampling.n }, (_, choice) => {
    const answer = composeFor(request, sampling, { seed: simulation.seed, options }, choice);
    const said = thinks ? answer : { ...answer, parts: answer.parts.filter((part) => part.kind !== "reasoning") };
    return planAnswer(prefix === null ? said : continueAnswer(said, prefix), sampling, room);
  });
  const sender = chatSender({
    id: `chatcmpl-${requestIdOf(exchange)}`,
    model,
    fingerprint: simulation.fingerprint,
    sampling,
    plans,
    prompt,
    echoed: echo && prefix !== null ? prefix : "",
    topLogprobs,
    topPromptLogprobs,
  });
  const salt = topPromptLogprobs === null ? model : uncached(model);
  return generate({ simulation, exchange, sampling, prompts: [prompt], plans, salt, sender });
}

/** As vLLM, where a body may name its request itself. */
export function requestIdOf({ body, requestId }: Exchange): string {
  const given = body.request_id;
  return typeof given === "string" && /^[\x21-\x7e]{1,200}$/.test(given) ? given : requestId;
}

function readMessages(body: JsonBody): readonly ChatMessage[] {
  const { messages } = body;
  if (!Array.isArray(messages)) throw new WireError(400, "messages must be a list", "messages");
  if (messages.length === 0) throw new WireError(400, "messages must not be empty", "messages");
  if (messages.length > MESSAGES_MAX) throw new WireError(400, `at most ${MESSAGES_MAX} messages`, "messages");
  if (!messages.every((message) => isRecord(message) && typeof message.role === "string")) {
    throw new WireError(400, "each message must be an object with a role", "messages");
  }
  return messages as readonly ChatMessage[];
}

/**
 * The answer of one choice. Its seed is made of what decides the answer and of nothing else: the model's name, the limits
 * and how it is sent leave it as it is, so that a longer answer begins with the shorter one and goes on anywhere.
 * Throws WireError 400.
 */
export function composeFor(
  request: ChatRequest,
  sampling: Sampling,
  { seed, options }: { readonly seed: string; readonly options: AnswerOptions },
  choice: number,
): Answer {
  const { messages, tools, tool_choice, response_format, structured_outputs, reasoning_effort } = request;
  const decisive = { messages, tools, tool_choice, response_format, structured_outputs, reasoning_effort };
  const own = sampling.seed ?? Bun.hash(JSON.stringify(decisive));
  try {
    const answer = composeAnswer(request, createRng(`${seed}/${own}/${choice}`), options);
    return sampling.badWords.length === 0 || readConstraint(request) !== null
      ? answer
      : { ...answer, parts: answer.parts.map((part) => withoutBadWords(part, sampling.badWords)) };
  } catch (error) {
    if (error instanceof ContentError) throw new WireError(400, error.message, error.param);
    throw error;
  }
}

const withoutBadWords = (part: AnswerPart, words: readonly string[]): AnswerPart =>
  part.kind === "tool_call" ? part : { ...part, text: withoutWords(part.text, words) };

/** What is left of an answer of which `prefix` was said: all of it where it does not begin so. */
function continueAnswer(answer: Answer, prefix: string): Answer {
  const text = answer.parts.map((part) => (part.kind === "content" ? part.text : "")).join("");
  const rest = text.startsWith(prefix) ? text.slice(prefix.length) : text;
  const calls = answer.parts.filter((part) => part.kind === "tool_call");
  return { parts: [{ kind: "content", text: rest }, ...calls], finishReason: answer.finishReason };
}
