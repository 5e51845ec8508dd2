// What a scripted model says: rules in order, each for certain moments of a conversation. The mode `scripted` looks for
// the first one that fits. It keeps nothing between requests: turn and step are counted in the messages. Pure.
import { type ChatMessage, lastTextOf } from "../chat-request.ts";
import type { FaultSpec } from "../fault.ts";
import { lastResult, sinceQuestion, type Template, turnOf } from "./template.ts";

export type TextMatch = (text: string) => boolean;

/** All that is named must fit. */
export interface Moment {
  /** The last message of the user. */
  readonly user?: TextMatch;
  readonly system?: TextMatch;
  /** The last result of a tool since the user spoke. */
  readonly result?: TextMatch;
  /** The name of the tool that gave it. */
  readonly tool?: string;
  /** Messages of the user so far: 1 is the first. */
  readonly turn?: number;
  /** Answers since the user spoke, this one among them: 1 before any tool was called. */
  readonly step?: number;
}

export interface ScriptedCall {
  readonly name: string;
  /** As they are sent: JSON, or what the script has as a text. */
  readonly arguments: string;
}

export interface Rule {
  readonly when: Moment;
  readonly reasoning: Template | null;
  /** Null, without calls too: what the simulator would say. */
  readonly text: Template | null;
  readonly calls: readonly ScriptedCall[];
  /** Null: as the answer ends by itself. */
  readonly finishReason: "stop" | "length" | "tool_calls" | "content_filter" | null;
  readonly fault: FaultSpec | null;
}

export interface Scenario {
  readonly name: string;
  readonly rules: readonly Rule[];
}

/** Null where no rule fits. */
export function ruleFor({ rules }: Scenario, messages: readonly ChatMessage[]): Rule | null {
  const moment = momentOf(messages);
  return rules.find(({ when }) => fits(when, moment)) ?? null;
}

/** For the message where no rule fits. */
export function whereIn(messages: readonly ChatMessage[]): string {
  const { turn, step } = momentOf(messages);
  return `turn ${turn}, step ${step}`;
}

const momentOf = (messages: readonly ChatMessage[]) => ({
  user: lastTextOf(messages, "user"),
  system: lastTextOf(messages, "system"),
  result: lastResult(messages),
  turn: turnOf(messages),
  step: 1 + sinceQuestion(messages).filter(({ role }) => role === "assistant").length,
});

function fits(when: Moment, now: ReturnType<typeof momentOf>): boolean {
  return (
    (when.turn ?? now.turn) === now.turn &&
    (when.step ?? now.step) === now.step &&
    (when.tool ?? now.result?.tool) === now.result?.tool &&
    (when.user?.(now.user) ?? true) &&
    (when.system?.(now.system) ?? true) &&
    (when.result === undefined || (now.result !== null && when.result(now.result.text)))
  );
}
