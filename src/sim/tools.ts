// Tool calls: which of the offered functions the last request wants, with arguments from its words that conform to the
// function's JSON Schema. Called by answer.ts. A rule decides, never a dice: the same words call the same tool.
import { type ChatMessage, type ChatRequest, ContentError, isRecord, textOf } from "./chat-request.ts";
import { drawInteger, type Rng } from "./rng.ts";
import { isSchema, recordOf, type Schema, stringsOf } from "./schema/schema.ts";
import { conforming } from "./structured.ts";
import type { SuggestionSource } from "./suggestion-source.ts";
import { arithmeticIn } from "./text/arithmetic.ts";
import { conceptsOf } from "./text/concepts.ts";
import { codesIn, emailsIn, nameWords, placesIn } from "./text/material.ts";
import { rank } from "./text/rank.ts";
import { followUp } from "./text/reply.ts";
import { isCourtesy } from "./text/small-talk.ts";
import type { Conversation } from "./text/statements.ts";
import { likeness, termsOf, wordsOf } from "./text/words.ts";

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

interface Tool {
  readonly name: string;
  readonly description: string;
  readonly parameters: Schema;
  readonly at: number;
}

/** OpenAI's limit. */
const TOOLS_MAX = 128;
const CALLS_MAX = 8;
/** A request is read by its beginning and as many clauses: more of them name no more tools. */
const QUESTION_CHARS_MAX = 4000;
const CLAUSES_MAX = 20;
/** A function's name met in the request is enough, two words of its description are. */
const FIT_MIN = 0.5;

/** The calls to make now: none where the request wants text. Throws ContentError for malformed tools or choices. */
export function chooseToolCalls(
  request: ChatRequest,
  conversation: Conversation,
  source: SuggestionSource,
  rng: Rng,
): ToolCall[] {
  const tools = readTools(request.tools);
  const choice = readChoice(request.tool_choice, tools);
  const question = conversation.question.slice(0, QUESTION_CHARS_MAX);
  if (choice === "none" || tools.length === 0) return [];
  const make = (tool: Tool, entity: number): ToolCall => ({
    id: drawCallId(rng),
    name: tool.name,
    arguments: JSON.stringify(
      conforming(objectOf(tool.parameters), { ...source, entity }, rng, `tools[${tool.at}].function.parameters`),
    ),
  });
  const parallel = request.parallel_tool_calls !== false;
  const entitiesOf = (tool: Tool): number => (parallel ? countEntities(tool, question) : 1);
  const callAll = (tool: Tool): ToolCall[] =>
    Array.from({ length: entitiesOf(tool) }, (_, entity) => make(tool, entity));
  if (typeof choice === "object") return callAll(choice);
  const goesOn = followUp.test(question) && wordsOf(question).length <= FOLLOW_UP_WORDS_MAX;
  const before = goesOn ? lastCalled(request.messages, tools) : undefined;
  const planned = plan(tools, { ...conversation, question }, parallel, before);
  if (choice === "required") {
    const first = planned.length > 0 ? planned : [bestOf(tools, question)];
    return first.flatMap(callAll).slice(0, CALLS_MAX);
  }
  const called = callsSinceQuestion(request.messages);
  const left = planned.flatMap((tool) =>
    Array.from({ length: countEntities(tool, question) }, (_, entity) => ({ tool, entity })).slice(
      called.get(tool.name) ?? 0,
    ),
  );
  return left.slice(0, parallel ? CALLS_MAX : 1).map(({ tool, entity }) => make(tool, entity));
}

export const drawCallId = (rng: Rng): string =>
  `call_${Array.from({ length: 24 }, () => drawInteger(rng, 0, 35).toString(36)).join("")}`;

function readTools(given: unknown): Tool[] {
  if (given == null) return [];
  if (!Array.isArray(given) || given.length > TOOLS_MAX)
    throw new ContentError(`tools must be a list of at most ${TOOLS_MAX}`, "tools");
  if (given.length === 0) throw new ContentError("`tools` must not be an empty array.", "tools");
  return given.map((one, at) => {
    const definition = isRecord(one) && one.type === "function" ? one.function : undefined;
    if (!isRecord(definition) || typeof definition.name !== "string" || definition.name === "") {
      throw new ContentError("a tool must be a function with a name", `tools[${at}]`);
    }
    const { name, description, parameters = {} } = definition;
    if (!isSchema(parameters))
      throw new ContentError("parameters must be a JSON Schema", `tools[${at}].function.parameters`);
    return { name, description: typeof description === "string" ? description : "", parameters, at };
  });
}

function readChoice(choice: unknown, tools: readonly Tool[]): "none" | "auto" | "required" | Tool {
  if (choice === "none") return "none";
  if (choice == null) return "auto";
  if (tools.length === 0) throw new ContentError("When using `tool_choice`, `tools` must be set.", "tool_choice");
  if (choice === "auto") return "auto";
  if (choice === "required") return "required";
  const name = isRecord(choice) && isRecord(choice.function) ? choice.function.name : undefined;
  const named = tools.find((tool) => tool.name === name);
  if (named === undefined) throw new ContentError("tool_choice names no tool of the request", "tool_choice");
  return named;
}

/** Arguments are an object whatever the schema forgets to say. */
const objectOf = (parameters: Schema): Schema =>
  parameters === true || parameters === false ? { type: "object" } : { type: "object", ...parameters };

/** The tools that the request fits: of each of its clauses the best, in order; none, and it goes on: `before`. */
function plan(tools: readonly Tool[], conversation: Conversation, parallel: boolean, before: Tool | undefined): Tool[] {
  const { question } = conversation;
  const planned = new Set<Tool>();
  if (isCourtesy(question)) return [];
  const clauses =
    parallel || tools.length > 1
      ? question.split(/[,;\uff0c\uff1b。.!?\uff1f\uff01]\s*|\s+(?:and|und|then|dann)\s+|然后|并且?|그리고/)
      : [question];
  for (const clause of clauses.slice(0, CLAUSES_MAX)) {
    const best = bestOf(tools, clause);
    if (fit(best, clause) >= FIT_MIN) planned.add(best);
  }
  const best = bestOf(tools, question);
  if (planned.size === 0 && fit(best, question) >= FIT_MIN) planned.add(best);
  if (planned.size === 0 && before !== undefined) planned.add(before);
  const lookup = tools.find(({ name, description }) =>
    /search|lookup|look_up|retriev|knowledge|wiki|查|检索|검색/i.test(`${name} ${description}`),
  );
  if (planned.size === 0 && lookup !== undefined && isOpen(conversation)) planned.add(lookup);
  return [...planned];
}

const bestOf = (tools: readonly Tool[], text: string): Tool =>
  tools.reduce((best, tool) => (fit(tool, text) > fit(best, text) ? tool : best));

/** A question that nothing in the conversation answers is one to look up. */
function isOpen({ question, statements }: Conversation): boolean {
  const asks = /[?\uff1f]\s*$|^\W*(?:who|what|when|where|which|how|why|wer|was|wann|wo|wie|warum)\b/i.test(question);
  if (!asks || termsOf(question).length < 2 || /\b(?:you|your|du|dein\w*)\b|你|您|당신/i.test(question)) return false;
  return (
    (rank(
      question,
      statements.filter(({ source }) => source !== "assistant"),
    )[0]?.coverage ?? 0) < 0.5
  );
}

/** How well a request's words fit a tool's: about 1 for one that is meant. */
function fit({ name, description, parameters }: Tool, text: string): number {
  const asked = [...new Set(termsOf(text))];
  const names = termsOf(nameWords(name).join(" ")).filter(
    (term) => !/^(?:get|set|do|run|fetch|tool|function|current|make)$/.test(term),
  );
  const told = new Set(termsOf(description));
  const properties = Object.entries(recordOf(recordOf(parameters).properties));
  const parts = new Set(
    termsOf(
      properties.map(([key, value]) => `${nameWords(key).join(" ")} ${recordOf(value).description ?? ""}`).join(" "),
    ),
  );
  let sum = 0;
  for (const term of asked) {
    if (names.some((other) => likeness(term, other) >= 0.6)) sum += 0.6;
    else if (told.has(term)) sum += 0.3;
    else if (parts.has(term)) sum += 0.15;
  }
  const concepts = conceptsOf(text);
  const nameConcepts = conceptsOf(nameWords(name).join(" "));
  for (const concept of conceptsOf(`${nameWords(name).join(" ")} ${description}`))
    if (concepts.has(concept)) sum += nameConcepts.has(concept) ? 0.5 : 0.3;
  if (arithmeticIn(text) !== null && conceptsOf(`${nameWords(name).join(" ")} ${description}`).has("#calculate"))
    sum += 0.6;
  if (emailsIn(text).length > 0 && properties.some(([key]) => /mail|recipient|^to$/i.test(key))) sum += 0.3;
  return sum;
}

/** "Paris and London" for a tool that takes one city is two calls. */
function countEntities({ parameters }: Tool, question: string): number {
  const { properties, required } = recordOf(parameters);
  const keys = stringsOf(required).length > 0 ? stringsOf(required) : Object.keys(recordOf(properties));
  for (const key of keys) {
    const schema = recordOf(recordOf(properties)[key]);
    if (schema.type !== "string" || schema.enum !== undefined) continue;
    const words = nameWords(key).join(" ");
    if (/\b(?:city|location|place|country|town|stadt|ort)\b|城市|地点/.test(words))
      return Math.min(CALLS_MAX, Math.max(1, placesIn(question).length));
    if (/\b(?:symbol|ticker|code|id)\b/.test(words))
      return Math.min(CALLS_MAX, Math.max(1, new Set(codesIn(question)).size));
  }
  return 1;
}

/** "And in London?" has no verb of its own; what has more words asks for something else. */
const FOLLOW_UP_WORDS_MAX = 5;

/** The tool that was called last before the user spoke. */
function lastCalled(messages: readonly ChatMessage[], tools: readonly Tool[]): Tool | undefined {
  const before = messages.slice(
    0,
    messages.findLastIndex(({ role }) => role === "user"),
  );
  const calls = before.findLast(({ tool_calls }) => Array.isArray(tool_calls) && tool_calls.length > 0)?.tool_calls;
  const last: unknown = Array.isArray(calls) ? calls.at(-1) : undefined;
  const name = isRecord(last) && isRecord(last.function) ? last.function.name : undefined;
  return tools.find((tool) => tool.name === name);
}

/** How often each tool was called since the user spoke last. */
function callsSinceQuestion(messages: readonly ChatMessage[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { tool_calls } of messages.slice(messages.findLastIndex(({ role }) => role === "user") + 1)) {
    for (const call of Array.isArray(tool_calls) ? tool_calls : []) {
      const name = isRecord(call) && isRecord(call.function) ? String(call.function.name) : "";
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return counts;
}

/** What the tools answered since the user spoke last. */
export const toolResults = (messages: readonly ChatMessage[]): string[] =>
  messages
    .slice(messages.findLastIndex(({ role }) => role === "user") + 1)
    .filter(({ role }) => role === "tool")
    .map(textOf);
