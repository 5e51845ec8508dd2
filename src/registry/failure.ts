// What a stage threw, as the error a task ends with. Called by stages.ts; what leaves here may be shown to the client,
// so the text of an unknown error is stripped of paths and its stack stays in the log.
import { asAppError, type ErrorCode, errorKinds, messageOf } from "../errors.ts";

export type Stage = "prepare" | "infer" | "postprocess" | "output";

export interface Failure {
  /** A code of ours, or the runner's own. `aborted`: the signal had fired, and who aborted it decides what it means. */
  readonly code: string;
  readonly message: string;
  readonly stage: Stage;
  readonly retryable: boolean;
}

/** No model server has begun on what was asked: waiting for one costs nothing but time. */
export interface ModelWait {
  /** How long a full server asked to be left alone; 0 where none did. */
  readonly retryAfterMs: number;
}

export interface Failed {
  readonly failure: Failure;
  /** False for what no runner declared, whose stack belongs into the log. */
  readonly known: boolean;
  readonly wait: ModelWait | null;
}

const ABORTED = "aborted";
const MESSAGE_CHARS_MAX = 500;
const CODE = /^[a-z][a-z0-9_]{0,63}$/;

/** The failure behind `error`. */
export function failureOf(error: unknown, stage: Stage, aborted: boolean): Failed {
  if (aborted) {
    const failure = { code: ABORTED, message: "The attempt was stopped", stage, retryable: true };
    return { failure, known: true, wait: null };
  }
  const own = asRunnerError(error);
  if (own) return { failure: { ...own, message: cut(own.message), stage }, known: true, wait: null };
  const ours = asAppError(error);
  if (ours) {
    const retryable = errorKinds[ours.code].retry !== "never";
    const failure = { code: ours.code, message: cut(ours.message), stage, retryable };
    return { failure, known: true, wait: waitFor(ours.code, ours.retryAfterS ?? 0) };
  }
  const refused = asModelFailure(error);
  if (refused) return { failure: { ...refused.failure, stage }, known: true, wait: refused.wait };
  const message = cut(withoutPaths(messageOf(error))) || "The runner threw without a message";
  return { failure: { code: "runner_failed", message, stage, retryable: true }, known: false, wait: null };
}

/** Only a full server says when to come back; when one that is away will be there nobody knows. */
const waitFor = (code: ErrorCode, retryAfterS: number): ModelWait | null =>
  errorKinds[code].waits ? { retryAfterMs: code === "model_overloaded" ? retryAfterS * 1_000 : 0 } : null;

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
function asModelFailure(
  error: unknown,
): { readonly failure: Pick<Failure, "code" | "message" | "retryable">; readonly wait: ModelWait | null } | null {
  if (!(error instanceof Error) || !("status" in error) || !("requestID" in error)) return null;
  const { status, headers, error: body }: { status: unknown; headers?: unknown; error?: unknown } = error;
  const said = typeof body === "object" && body !== null && "message" in body ? String(body.message) : "";
  const ours = headers instanceof Headers ? headers.get("x-millrace-code") : null;
  if (headers instanceof Headers && ours !== null && Object.hasOwn(errorKinds, ours)) {
    const { title, retry } = errorKinds[ours as ErrorCode];
    const code = ours === "invalid_request" ? "invalid_input" : ours; // a task has no request, but an input
    const failure = { code, message: cut(said) || title, retryable: retry !== "never" };
    return { failure, wait: waitFor(ours as ErrorCode, Number(headers.get("retry-after") ?? 0)) };
  }
  if (typeof status === "number" && status >= 400 && status < 500) {
    const message = `The model server refused the request: ${withoutUrls(withoutPaths(said)) || `status ${status}`}`;
    return { failure: { code: "invalid_input", message: cut(message), retryable: false }, wait: null };
  }
  const failure = { code: "upstream_failed", message: errorKinds.upstream_failed.title, retryable: true };
  return { failure, wait: null };
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
