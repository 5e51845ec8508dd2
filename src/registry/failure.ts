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
  const refused = asModelFailure(error);
  if (refused) return { failure: { ...refused, stage }, known: true };
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

/**
 * What `ctx.llm` threw and the runner let through. By shape, as the class belongs to a package that is loaded on demand:
 * OpenAI's errors carry the answer's status and headers, and only ours have the header with a code of ours.
 */
function asModelFailure(error: unknown): Pick<Failure, "code" | "message" | "retryable"> | null {
  if (!(error instanceof Error) || !("status" in error) || !("requestID" in error)) return null;
  const { status, headers, error: body }: { status: unknown; headers?: unknown; error?: unknown } = error;
  const said = typeof body === "object" && body !== null && "message" in body ? String(body.message) : "";
  const ours = headers instanceof Headers ? headers.get("x-millrace-code") : null;
  if (ours !== null && Object.hasOwn(errorKinds, ours)) {
    const { title, retry } = errorKinds[ours as keyof typeof errorKinds];
    const code = ours === "invalid_request" ? "invalid_input" : ours; // a task has no request, but an input
    return { code, message: cut(said) || title, retryable: retry !== "never" };
  }
  if (typeof status === "number" && status >= 400 && status < 500) {
    const message = `The model server refused the request: ${withoutUrls(withoutPaths(said)) || `status ${status}`}`;
    return { code: "invalid_input", message: cut(message), retryable: false };
  }
  return { code: "upstream_failed", message: errorKinds.upstream_failed.title, retryable: true };
}

const cut = (text: string): string => text.slice(0, MESSAGE_CHARS_MAX);

const withoutUrls = (text: string): string => text.replace(/\bhttps?:\/\/[^\s'"`)]+/g, "<url>");

/** The first line, with file names and file URLs (two segments or more) replaced by `<path>`. */
const withoutPaths = (text: string): string =>
  text
    .slice(0, 4 * MESSAGE_CHARS_MAX)
    .split("\n", 1)
    .join("")
    .replace(/file:\/\/[^\s'"`)]+/g, "<path>")
    .replace(/(?<![\w:/.])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'"`()]+[\\/])+[^\s:'"`()]*/g, "<path>");
