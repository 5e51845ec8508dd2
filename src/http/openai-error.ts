// The error body of the OpenAI API, for the routes that its SDKs call. problem.ts and llm-stream.ts send it, openapi.ts
// shows it.
import { type AppError, type ErrorCode, errorKinds } from "../errors.ts";

/** Codes that the SDKs know by another name. */
const theirNames: Partial<Record<ErrorCode, string>> = {
  unauthorized: "invalid_api_key",
  unknown_model: "model_not_found",
};

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
