// Decides what the simulator answers to a chat request: text, tool calls or structured output. The engine calls it
// once for every choice and streams the parts. It is pure: the same request and seed give the same answer.
import { type ChatRequest, ContentError, isRecord, lastTextOf } from "./chat-request.ts";
import { withMalformed } from "./malformed.ts";
import { type AnswerMode, type AnswerOptions, plainOptions } from "./modes/mode.ts";
import { type Rule, ruleFor, whereIn } from "./modes/scenario.ts";
import { fillTemplate, type Template, valuesOf } from "./modes/template.ts";
import { describePictures, picturesIn } from "./pictures.ts";
import type { Rng } from "./rng.ts";
import { type Constraint, obey, obeys, readConstraint, schemaInProse } from "./structured.ts";
import type { SuggestionSource } from "./suggestion-source.ts";
import { randomText } from "./text/draft.ts";
import { languageOf } from "./text/language.ts";
import { composeReply, findAnswer } from "./text/reply.ts";
import { isPersona } from "./text/speaker.ts";
import { type Conversation, readConversation } from "./text/statements.ts";
import { summarise } from "./text/summary.ts";
import { tellResults } from "./text/tool-results.ts";
import { toolText } from "./tool-text.ts";
import { chooseToolCalls, drawCallId, type ToolCall, toolResults } from "./tools.ts";

export type AnswerPart =
  | { readonly kind: "reasoning" | "content"; readonly text: string }
  /** `arguments` is the text of a JSON object that conforms to the tool's parameters, unless something else was asked for. */
  | { readonly kind: "tool_call"; readonly id: string; readonly name: string; readonly arguments: string };

/** In the order in which it is said; at least one part. */
export interface Answer {
  readonly parts: readonly AnswerPart[];
  readonly finishReason: "stop" | "tool_calls" | "length" | "content_filter";
}

/**
 * The whole answer, before `stop` and `max_tokens` cut it. `rng` is this choice's own: hash of seed and choice index.
 * Throws ContentError (a 400) for what cannot be answered.
 */
export function composeAnswer(request: ChatRequest, rng: Rng, options: AnswerOptions = plainOptions): Answer {
  const { mode } = options;
  if (mode.kind !== "scripted") return answerTo(request, rng, options);
  const rule = ruleFor(mode.scenario, request.messages);
  if (rule === null) {
    const message = `the scenario ${mode.scenario.name} has no rule for ${whereIn(request.messages)}`;
    throw new ContentError(message, "messages");
  }
  return scriptedAnswer(rule, request, rng, options);
}

/** What a rule says as it stands, whatever the request wants of it; where it says nothing, what else would be said. */
function scriptedAnswer(rule: Rule, request: ChatRequest, rng: Rng, options: AnswerOptions): Answer {
  const unscripted = once(() => answerTo(request, rng, { ...options, mode: plainOptions.mode }));
  const values = valuesOf(request.messages, () => contentOf(unscripted()));
  const say = (kind: "reasoning" | "content", text: Template | null): AnswerPart[] =>
    text === null ? [] : [{ kind, text: fillTemplate(text, values) }];
  const thoughts = say("reasoning", rule.reasoning);
  if (rule.text === null && rule.calls.length === 0) {
    const { parts, finishReason } = unscripted();
    return { parts: [...thoughts, ...parts], finishReason: rule.finishReason ?? finishReason };
  }
  const spoken = [...thoughts, ...say("content", rule.text)];
  if (rule.calls.length === 0) return { parts: spoken, finishReason: rule.finishReason ?? "stop" };
  const calls = rule.calls.map((call) => ({ id: drawCallId(rng), ...call }));
  const { parts, finishReason } = calling(spoken, calls, "tool_calls", options);
  return { parts, finishReason: rule.finishReason ?? finishReason };
}

const contentOf = ({ parts }: Answer): string =>
  parts.map((part) => (part.kind === "content" ? part.text : "")).join("");

/** An answer that ends with calls, parsed or as text. */
function calling(
  before: readonly AnswerPart[],
  calls: readonly ToolCall[],
  finishReason: Answer["finishReason"],
  { toolFormat }: AnswerOptions,
): Answer {
  if (toolFormat === null) {
    return { parts: [...before, ...calls.map((call) => ({ kind: "tool_call" as const, ...call }))], finishReason };
  }
  const text = toolText(calls, toolFormat);
  const spoken = before.length > 0 && before.at(-1)?.kind === "content" ? `\n${text}` : text;
  return { parts: [...before, { kind: "content", text: spoken }], finishReason: "stop" };
}

function answerTo(request: ChatRequest, rng: Rng, options: AnswerOptions): Answer {
  const { messages } = request;
  const constraint = readConstraint(request);
  const conversation = readConversation(messages);
  const results = toolResults(messages);
  const pictures = describePictures(picturesIn(messages));
  const composed = once(() => {
    if (results.length > 0) return tellResults(results, conversation.question);
    return pictures !== "" ? pictures : composeReply(conversation, rng);
  });
  const given = once(() => textBy(options.mode, request, composed, rng));
  const reply = (): string => given() ?? composed();
  const asked = [conversation.given, conversation.question, pictures].filter((text) => text !== "").join("\n");
  const said = conversation.statements.filter((one) => one.source !== "assistant").map(({ text }) => text);
  const rest = [...results, ...said].join("\n");
  // "Extract the patient as JSON." holds nothing of the patient: what was said before is what it is about.
  const bare = constraint !== null && rest !== "" && asked.length < BARE_CHARS_MAX && bareRequest.test(asked);
  const source: SuggestionSource = {
    asked: bare ? rest : asked,
    rest: bare ? asked : rest,
    reply: once(() => (results.length > 0 || pictures !== "" ? reply() : proseOn(conversation, rng))),
    entity: 0,
    sparse: false,
  };
  const thoughts: AnswerPart[] = thinks(request) ? [{ kind: "reasoning", text: thoughtsOn(conversation) }] : [];
  // Calls that stand in texts are not counted in the conversation: what has a result was the last of them.
  const isDone = options.toolFormat !== null && results.length > 0;
  const calls = isDone ? [] : chooseToolCalls(request, conversation, { ...source, sparse: true }, rng);
  if (calls.length > 0) {
    // As vLLM: a call of a named function ends like a text.
    const finishReason = isRecord(request.tool_choice) ? "stop" : "tool_calls";
    return calling(thoughts, withMalformed(calls, request, options.malformedShare, rng), finishReason, options);
  }
  const inProse = constraint === null ? schemaInProse(askingTexts(conversation)) : null;
  const wanted = inProse === null ? constraint : ({ kind: "json", schema: inProse, param: "messages" } as const);
  const text = wanted === null ? reply() : (obeying(wanted, given()) ?? obey(wanted, source, conversation, rng));
  return { parts: [...thoughts, { kind: "content", text }], finishReason: "stop" };
}

/** Where JSON may be asked for in words: somebody who is played does not answer in JSON because another says so. */
const askingTexts = (conversation: Conversation): string[] =>
  isPersona(conversation) ? [conversation.prompt] : [conversation.question, conversation.given, conversation.prompt];

const BARE_CHARS_MAX = 120;
const bareRequest =
  /^\W*(?:please |bitte |请)?(?:extract|fill|convert|parse|structure|return|output|give me|extrahier\p{L}*|gib|wandle|提取|整理|输出)[^:\uff1a]*$/iu;

const obeying = (wanted: Constraint, text: string | null): string | null =>
  text !== null && obeys(wanted, text) ? text : null;

/** The text that the mode has for a request; null where the conversation is to be answered. */
function textBy(mode: AnswerMode, { messages }: ChatRequest, answer: () => string, rng: Rng): string | null {
  if (mode.kind === "template") return fillTemplate(mode.template, valuesOf(messages, answer));
  if (mode.kind === "conversation" || mode.kind === "scripted" || toolResults(messages).length > 0) return null;
  const asked = lastTextOf(messages, "user");
  if (mode.kind === "dataset") return mode.dataset.answerTo(asked, rng);
  if (mode.kind === "random") return randomText(languageOf(asked), rng);
  return asked === "" ? null : asked;
}

/** What a field for prose gets: the answer, else the gist of what was given. */
function proseOn(conversation: Conversation, rng: Rng): string {
  const gist = conversation.given.trim() === "" ? conversation.question : conversation.given;
  return findAnswer(conversation, rng) ?? summarise(gist, { sentences: 2, words: null, list: false, headings: [] });
}

function once<Value>(make: () => Value): () => Value {
  let made: { readonly value: Value } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** Reasoning is asked for by effort, or by the template's switch as Qwen and DeepSeek have it. */
function thinks({ reasoning_effort, chat_template_kwargs: switches }: ChatRequest): boolean {
  if (typeof reasoning_effort === "string") return reasoning_effort !== "none" && reasoning_effort !== "minimal";
  return isRecord(switches) && (switches.enable_thinking === true || switches.thinking === true);
}

/** Says what is done, and nothing of the prompt. */
const thoughtsOn = ({ question, statements }: Conversation): string =>
  `The user says: “${question.slice(0, 200)}”. I look through ${statements.length} statements of the conversation for what answers it.`;
