// The error body of the OpenAI API, for the routes that its SDKs call. problem.ts and llm-stream.ts send it, openapi.ts
// shows it, dispatch.ts asks whether a path is theirs.
import { type AppError, type ErrorCode, errorKinds } from "../errors.ts";

/** Codes that the SDKs know by another name. */
const theirNames: Partial<Record<ErrorCode, string>> = {
  unauthorized: "invalid_api_key",
  unknown_model: "model_not_found",
};

/** What OpenAI's SDKs may ask for, with the `/v1` that belongs to the base URL or without. */
const theirPaths = new RegExp(
  "^(/v1)?/(chat/completions|completions|embeddings|models|files|images|audio|responses|conversations|moderations|" +
    "batches|uploads|fine_tuning|evals|vector_stores|assistants|threads|containers|videos|realtime)(/|$)",
);

/** What to say of a path that no route takes to somebody who uses such an SDK; null where it is none of theirs. */
export function unservedDetail(pathname: string): string | null {
  const match = theirPaths.exec(pathname);
  if (!match) return null;
  if (match[1] === undefined) return "The base URL lacks its end: here it is /v1.";
  return "This part of OpenAI's API is not served here. Chat, completions, embeddings, images, audio, models and files are.";
}

/** The `error` of a body, or of an event. */
export interface OpenAiError {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
}

/** What their SDKs have a class for: to them 422 is another error than the 400 that OpenAI answers. */
export const openAiStatus = (code: ErrorCode): number => (code === "invalid_request" ? 400 : errorKinds[code].status);

/**
 * Whether a repeat is in vain: where it is the request's fault, and where every server was tried already. The SDKs
 * repeat 409, 429 and 5xx by themselves, which would multiply our own tries.
 */
export const isFinal = (code: ErrorCode): boolean =>
  errorKinds[code].retry === "never" || ["upstream_failed", "upstream_timeout", "model_unavailable"].includes(code);

const typeOf = (code: ErrorCode): string => {
  if (code === "insufficient_quota") return code;
  const { status } = errorKinds[code];
  return status >= 500 ? "server_error" : status === 429 ? "rate_limit_error" : "invalid_request_error";
};

/** `param` is the first field that is not valid, as a JSON Pointer without its leading slash; null where none is. */
export function openAiError(code: ErrorCode, detail: string, fields: AppError["fields"] = []): { error: OpenAiError } {
  const [first] = fields;
  const message = first ? `${detail.replace(/\.$/, "")}: ${`${first.path.slice(1)} ${first.message}`.trim()}` : detail;
  return {
    error: { message, type: typeOf(code), param: first?.path.slice(1) || null, code: theirNames[code] ?? code },
  };
}
