// How an answer is made: from the conversation, as ever, or otherwise. options.ts reads it for each request; answer.ts
// does what it says.
import type { ToolTextFormat } from "../tool-text.ts";
import type { Dataset } from "./dataset.ts";
import type { Scenario } from "./scenario.ts";
import type { Template } from "./template.ts";

export type AnswerMode =
  | { readonly kind: "conversation" | "echo" | "random" }
  | { readonly kind: "template"; readonly template: Template }
  | { readonly kind: "dataset"; readonly dataset: Dataset }
  | { readonly kind: "scripted"; readonly scenario: Scenario };

export interface AnswerOptions {
  readonly mode: AnswerMode;
  /** Null: parsed, as the wire has tool calls. Else they stand in the text. */
  readonly toolFormat: ToolTextFormat | null;
  /** The share of tool calls whose arguments are no JSON object, 0 to 1. */
  readonly malformedShare: number;
}

export const plainOptions: AnswerOptions = { mode: { kind: "conversation" }, toolFormat: null, malformedShare: 0 };
