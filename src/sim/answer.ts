// Decides what the simulator answers to a chat request: text, tool calls or structured output. The engine calls it
// once for every choice and streams the parts. It is pure: the same request and seed give the same answer.
import { type ChatRequest, isRecord, lastTextOf } from "./chat-request.ts";
import { describePictures, picturesIn } from "./pictures.ts";
import type { Rng } from "./rng.ts";
import { obey, readConstraint, schemaInProse } from "./structured.ts";
import type { SuggestionSource } from "./suggestion-source.ts";
import { randomText } from "./text/draft.ts";
import { languageOf } from "./text/language.ts";
import { composeReply, findAnswer } from "./text/reply.ts";
import { isPersona } from "./text/speaker.ts";
import { type Conversation, readConversation } from "./text/statements.ts";
import { summarise } from "./text/summary.ts";
import { tellResults } from "./text/tool-results.ts";
import { chooseToolCalls, toolResults } from "./tools.ts";

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
  const { messages } = request;
  const constraint = readConstraint(request);
  const conversation = readConversation(messages);
  const results = toolResults(messages);
  const pictures = describePictures(picturesIn(messages));
  const reply = once(() =>
    results.length > 0 ? tellResults(results, conversation.question) : textFor(request, conversation, pictures, rng),
  );
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
  const calls = chooseToolCalls(request, conversation, { ...source, sparse: true }, rng);
  if (calls.length > 0) {
    // As vLLM: a call of a named function ends like a text.
    const finishReason = isRecord(request.tool_choice) ? "stop" : "tool_calls";
    return { parts: [...thoughts, ...calls.map((call) => ({ kind: "tool_call" as const, ...call }))], finishReason };
  }
  const inProse = constraint === null ? schemaInProse(askingTexts(conversation)) : null;
  const wanted = inProse === null ? constraint : ({ kind: "json", schema: inProse, param: "messages" } as const);
  const text = wanted === null ? reply() : obey(wanted, source, conversation, rng);
  return { parts: [...thoughts, { kind: "content", text }], finishReason: "stop" };
}

/** Where JSON may be asked for in words: somebody who is played does not answer in JSON because another says so. */
const askingTexts = (conversation: Conversation): string[] =>
  isPersona(conversation) ? [conversation.prompt] : [conversation.question, conversation.given, conversation.prompt];

const BARE_CHARS_MAX = 120;
const bareRequest =
  /^\W*(?:please |bitte |请)?(?:extract|fill|convert|parse|structure|return|output|give me|extrahier\p{L}*|gib|wandle|提取|整理|输出)[^:\uff1a]*$/iu;

function textFor(request: ChatRequest, conversation: Conversation, pictures: string, rng: Rng): string {
  const mode = isRecord(request.vllm_xargs) ? request.vllm_xargs.sim_mode : undefined;
  const asked = lastTextOf(request.messages, "user");
  if (mode === "echo" && asked !== "") return asked;
  if (mode === "random") return randomText(languageOf(asked), rng);
  return pictures !== "" ? pictures : composeReply(conversation, rng);
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
