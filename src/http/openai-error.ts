// The error body of the OpenAI API, for the routes that its SDKs call. problem.ts sends it, openapi.ts shows it.
import { type AppError, type ErrorCode, errorKinds } from "../errors.ts";

/** Codes that the SDKs know by another name. */
const theirNames: Partial<Record<ErrorCode, string>> = {
  unauthorized: "invalid_api_key",
  unknown_model: "model_not_found",
};

/** `param` is the first field that is not valid, as a JSON Pointer without its leading slash; null where none is. */
export function openAiError(code: ErrorCode, detail: string, fields: AppError["fields"] = []): object {
  const [first] = fields;
  const message = first ? `${detail} ${first.path.slice(1)}: ${first.message}`.trim() : detail;
  const type = errorKinds[code].status >= 500 ? "server_error" : "invalid_request_error";
  return { error: { message, type, param: first?.path.slice(1) || null, code: theirNames[code] ?? code } };
}
