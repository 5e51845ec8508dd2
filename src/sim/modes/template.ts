// Texts with places to fill: `{{question}}` and its like, in a template of the settings or of a request, and in what a
// scenario says. Parsed once, filled for each answer. Pure.
import { type ChatMessage, isRecord, lastTextOf, textOf } from "../chat-request.ts";

/** What a place may hold. */
export interface TemplateValues {
  /** The last message of the user. */
  readonly question: string;
  readonly system: string;
  /** Messages of the user so far. */
  readonly turn: string;
  /** What the last tool answered since the user spoke; empty where none did. */
  readonly result: string;
  /** What the simulator would have said. */
  readonly answer: string;
}

export type Template = readonly (string | { readonly place: keyof TemplateValues })[];

/** The text cannot be a template; `message` says why. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

const places: readonly string[] = ["question", "system", "turn", "result", "answer"] satisfies (keyof TemplateValues)[];
const isPlace = (name: string): name is keyof TemplateValues => places.includes(name);

const TEMPLATE_CHARS_MAX = 1_000_000;

/** Throws TemplateError for a place that nobody knows. */
export function parseTemplate(text: string): Template {
  if (text.length > TEMPLATE_CHARS_MAX) throw new TemplateError(`has more than ${TEMPLATE_CHARS_MAX} characters`);
  return text.split(/\{\{\s*(\w+)\s*\}\}/).map((part, index) => {
    if (index % 2 === 0) return part;
    if (isPlace(part)) return { place: part };
    throw new TemplateError(`has no place {{${part}}}: one of ${places.map((name) => `{{${name}}}`).join(", ")}`);
  });
}

/** At most as much as a template may have: no context holds more. */
export function fillTemplate(template: Template, values: TemplateValues): string {
  let text = "";
  for (const part of template) {
    text += typeof part === "string" ? part : values[part.place];
    if (text.length > TEMPLATE_CHARS_MAX) return text.slice(0, TEMPLATE_CHARS_MAX);
  }
  return text;
}

/** The values of a conversation; `answer` is composed where it is asked for. */
export function valuesOf(messages: readonly ChatMessage[], answer: () => string): TemplateValues {
  return {
    question: lastTextOf(messages, "user"),
    system: lastTextOf(messages, "system"),
    turn: String(turnOf(messages)),
    result: lastResult(messages)?.text ?? "",
    get answer() {
      return answer();
    },
  };
}

export const turnOf = (messages: readonly ChatMessage[]): number =>
  messages.filter(({ role }) => role === "user").length;

/** What was said since the user spoke last. */
export const sinceQuestion = (messages: readonly ChatMessage[]): readonly ChatMessage[] =>
  messages.slice(messages.findLastIndex(({ role }) => role === "user") + 1);

/** The last result of a tool since the user spoke, and the tool's name where the conversation has it. */
export function lastResult(messages: readonly ChatMessage[]): { text: string; tool: string } | null {
  const since = sinceQuestion(messages);
  const message = since.findLast(({ role }) => role === "tool");
  if (message === undefined) return null;
  const calls = since.flatMap(({ tool_calls }): unknown[] => (Array.isArray(tool_calls) ? tool_calls : []));
  const call = calls.find((one) => isRecord(one) && one.id === message.tool_call_id);
  const name = isRecord(call) && isRecord(call.function) ? call.function.name : message.name;
  return { text: textOf(message), tool: typeof name === "string" ? name : "" };
}
