// Errors on their way out: RFC 9457 problem details, or OpenAI's form where its SDKs call, made here and nowhere else.
// What a client may read is decided by the table in errors.ts; a stack, a path of this machine, a secret or the rejected
// input never leaves.
import { asDatabaseError } from "../db/postgres.ts";
import { type AppError, asAppError, type ErrorCode, errorKinds, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { isFinal, openAiError, openAiStatus } from "./openai-error.ts";
import { type Call, type ErrorFormat, reply } from "./route.ts";

/** Enough to repair a request; more would let a client make us write megabytes. */
const problemsMax = 32;
const pathCharsMax = 256;

const internalDetail = "Something failed on our side. Quote the request_id when you report it.";

type ProblemCall = Pick<Call, "request" | "requestId"> & { readonly errorFormat?: ErrorFormat | undefined };

/** The answer to anything thrown. Unknown errors become 500 `internal` and are logged, once, with the request id. */
export function problemReply(error: unknown, call: ProblemCall, log: Log, headers?: Record<string, string>): Response {
  const known = showable(error);
  if (known) return problem(call, known.code, known.message, known, headers);
  logInternal(error, call, log);
  return problem(call, "internal", internalDetail);
}

/** The same as one item of a larger answer: the status and the body that the item alone would have got. */
export function problemItem(error: unknown, call: ProblemCall, log: Log): { status: number; problem: object } {
  const known = showable(error);
  if (!known) logInternal(error, call, log);
  const [code, detail] = known ? [known.code, known.message] : (["internal", internalDetail] as const);
  return { status: errorKinds[code].status, problem: problemBody(code, detail, call.requestId, known?.fields) };
}

/** `internal` is made for the log: its message may name what a client must not see. */
function showable(error: unknown): AppError | null {
  const known = asAppError(error) ?? asDatabaseError(error);
  return known && known.code !== "internal" && errorKinds[known.code].status > 0 ? known : null;
}

/** A client that hung up in the middle of its body, or while it waited, is no fault of ours and reads no answer. */
function logInternal(error: unknown, call: ProblemCall, log: Log): void {
  if (call.request.signal.aborted) return;
  const stack = error instanceof Error ? error.stack : undefined;
  const code = asAppError(error)?.code;
  log.error({ request_id: call.requestId, error: messageOf(error), ...(code && { code }), stack }, "request.failed");
}

function problem(
  call: ProblemCall,
  code: ErrorCode,
  detail: string,
  error?: AppError,
  headers?: Record<string, string>,
): Response {
  const { status } = errorKinds[code];
  const all: Record<string, string> = { ...headers };
  const waitS = status === 503 || status === 429 ? (error?.retryAfterS ?? 1) : null;
  if (waitS !== null) all["retry-after"] = String(Math.max(1, Math.ceil(waitS)));
  if (status === 401) all["www-authenticate"] ??= 'Bearer realm="millrace"';
  if (call.errorFormat === "openai") {
    if (isFinal(code)) all["x-should-retry"] = "false";
    if (waitS !== null) all["retry-after-ms"] = String(Math.ceil(waitS * 1_000));
    const shown = JSON.stringify(openAiError(code, detail, error?.fields));
    return reply(call, openAiStatus(code), "application/json", shown, all);
  }
  const body = problemBody(code, detail, call.requestId, error?.fields);
  return reply(call, status, "application/problem+json", JSON.stringify(body), all);
}

/** The members of a problem, in the order of RFC 9457 §3.1; `type` is a name, not an address that answers. */
export function problemBody(
  code: ErrorCode,
  detail: string,
  requestId: string,
  fields: AppError["fields"] = [],
): object {
  const { status, title, retry } = errorKinds[code];
  const errors = fields
    .slice(0, problemsMax)
    .map(({ path, message }) => ({ path: path.slice(0, pathCharsMax), message: message.slice(0, pathCharsMax) }));
  return {
    type: `urn:millrace:problem:${code}`,
    title,
    status,
    detail,
    code,
    request_id: requestId,
    ...(errors.length > 0 ? { errors } : {}),
    retryable: retry !== "never",
  };
}
