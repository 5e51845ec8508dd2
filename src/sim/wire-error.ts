// What the simulator refuses, in vLLM's words and shape: `{"error":{message,type,param,code}}` with the HTTP status as
// an integer code. Handlers throw it, the server answers it.
import { jsonResponse } from "./json-response.ts";

const types: Readonly<Record<number, string>> = {
  400: "BadRequestError",
  401: "AuthenticationError",
  404: "NotFoundError",
  405: "MethodNotAllowed",
  413: "RequestEntityTooLarge",
  422: "UnprocessableEntityError",
  429: "RateLimitError",
  501: "NotImplementedError",
  503: "ServiceUnavailableError",
};

export class WireError extends Error {
  override readonly name = "WireError";
  readonly status: number;
  /** The request's field to blame. */
  readonly param: string | null;

  constructor(status: number, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

export function errorResponse(status: number, message: string, param: string | null = null): Response {
  const error = { message, type: types[status] ?? "InternalServerError", param, code: status };
  return jsonResponse({ error }, status);
}
