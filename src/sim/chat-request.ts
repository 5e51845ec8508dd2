// What the simulator reads of a chat request: the wire's own shape, of which the server has checked `messages` alone.
// The rest is unknown and checked where it is read; what cannot be answered is a ContentError, never a guess.

/** A message as it came; `content` is text, a list of parts, or nothing. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly name?: unknown;
  readonly tool_calls?: unknown;
  readonly tool_call_id?: unknown;
}

/** The fields of `/v1/chat/completions` that decide what is answered; how much and how fast is the engine's. */
export interface ChatRequest {
  readonly messages: readonly ChatMessage[];
  readonly tools?: unknown;
  readonly tool_choice?: unknown;
  readonly parallel_tool_calls?: unknown;
  readonly response_format?: unknown;
  readonly structured_outputs?: unknown;
  readonly reasoning_effort?: unknown;
  readonly chat_template_kwargs?: unknown;
}

/** The request asks for what the simulator cannot answer; the server makes it 400 with `param`. */
export class ContentError extends Error {
  /** The request's field to blame. */
  readonly param: string;

  constructor(message: string, param: string) {
    super(message);
    this.name = "ContentError";
    this.param = param;
  }
}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The text of a message: its string, or its text parts a line each. */
export function textOf(message: ChatMessage): string {
  if (typeof message.content === "string") return message.content;
  if (!Array.isArray(message.content)) return "";
  return message.content
    .flatMap((part) => (isRecord(part) && typeof part.text === "string" ? [part.text] : []))
    .join("\n");
}

/** The text of the last message of a role; empty where there is none. */
export function lastTextOf(messages: readonly ChatMessage[], role: string): string {
  const message = messages.findLast((one) => one.role === role);
  return message === undefined ? "" : textOf(message);
}
