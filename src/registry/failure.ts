// What a stage threw, as the error a task ends with. Called by stages.ts; what leaves here may be shown to the client,
// so the text of an unknown error is stripped of paths and its stack stays in the log.
import { asAppError, errorKinds, messageOf } from "../errors.ts";

export type Stage = "prepare" | "infer" | "postprocess" | "output";

export interface Failure {
  /** A code of ours, or the runner's own. `aborted`: the signal had fired, and who aborted it decides what it means. */
  readonly code: string;
  readonly message: string;
  readonly stage: Stage;
  readonly retryable: boolean;
}

const ABORTED = "aborted";
const MESSAGE_CHARS_MAX = 500;
const CODE = /^[a-z][a-z0-9_]{0,63}$/;

/** The failure behind `error`; `known` is false for what no runner declared, whose stack belongs into the log. */
export function failureOf(
  error: unknown,
  stage: Stage,
  aborted: boolean,
): { readonly failure: Failure; readonly known: boolean } {
  if (aborted) {
    return { failure: { code: ABORTED, message: "The attempt was stopped", stage, retryable: true }, known: true };
  }
  const own = asRunnerError(error);
  if (own) return { failure: { ...own, message: cut(own.message), stage }, known: true };
  const ours = asAppError(error);
  if (ours) {
    const retryable = errorKinds[ours.code].retry !== "never";
    return { failure: { code: ours.code, message: cut(ours.message), stage, retryable }, known: true };
  }
  const message = cut(withoutPaths(messageOf(error))) || "The runner threw without a message";
  return { failure: { code: "runner_failed", message, stage, retryable: true }, known: false };
}

/** By shape and not by class: a plugin may hold another copy of it. A code that is not snake_case, or ours, makes it unknown. */
function asRunnerError(error: unknown): { code: string; message: string; retryable: boolean } | null {
  if (!(error instanceof Error) || error.name !== "RunnerError" || !("code" in error)) return null;
  const { code, message } = error;
  if (typeof code !== "string" || !CODE.test(code) || code === ABORTED) return null;
  return { code, message, retryable: !("retryable" in error) || error.retryable !== false };
}

const cut = (text: string): string => text.slice(0, MESSAGE_CHARS_MAX);

/** The first line, with file names and file URLs (two segments or more) replaced by `<path>`. */
const withoutPaths = (text: string): string =>
  text
    .slice(0, 4 * MESSAGE_CHARS_MAX)
    .split("\n", 1)
    .join("")
    .replace(/file:\/\/[^\s'"`)]+/g, "<path>")
    .replace(/(?<![\w:/.])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'"`()]+[\\/])+[^\s:'"`()]*/g, "<path>");
