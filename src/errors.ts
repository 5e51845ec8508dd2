// Every error that may leave a process: one class, one table. The table alone decides the HTTP status, whether a
// client may try again, and whether its text may be shown. Codes are compared, never classes: they cross processes.

type Retry = "never" | "later" | "now";

interface ErrorKind {
  /** HTTP status of a request that fails with this code; 0 for codes that only end tasks. */
  readonly status: number;
  readonly title: string;
  /** What the caller may do: never repeat it as it is, repeat it after a wait, repeat it at once. */
  readonly retry: Retry;
  /** No model server has begun on it: a task waits for one, and the attempt does not count. */
  readonly waits: boolean;
}

const kind = (status: number, title: string, retry: Retry = "never"): ErrorKind => {
  return { status, title, retry, waits: false };
};
const waiting = (status: number, title: string): ErrorKind => ({ ...kind(status, title, "later"), waits: true });

export const errorKinds = {
  // Requests (problem+json `code`).
  invalid_json: kind(400, "The body is not valid JSON"),
  ambiguous_credentials: kind(400, "Two different credentials were sent"),
  unauthorized: kind(401, "A valid API key is needed"),
  forbidden: kind(403, "The key may not do this"),
  link_expired: kind(403, "The link has expired or is not valid"),
  route_not_found: kind(404, "No such path"),
  task_not_found: kind(404, "No such task"),
  file_not_found: kind(404, "No such file"),
  schedule_not_found: kind(404, "No such schedule"),
  unknown_model: kind(404, "No such model"),
  no_result: kind(404, "The task has no result"),
  method_not_allowed: kind(405, "This path has other methods"),
  not_acceptable: kind(406, "This path answers another media type"),
  request_timeout: kind(408, "The body arrived too slowly", "later"),
  task_finished: kind(409, "The task has already ended"),
  too_many_files: kind(409, "The key has too many files"),
  too_many_schedules: kind(409, "The key has too many schedules"),
  task_not_finished: kind(409, "The task has not ended", "later"),
  input_expired: kind(410, "The task's input is no longer kept"),
  no_delivery: kind(409, "There is no webhook to send"),
  payload_too_large: kind(413, "The body is too large"),
  unsupported_media_type: kind(415, "Send application/json"),
  invalid_request: kind(422, "The request is not valid"),
  idempotency_mismatch: kind(422, "This client_request_id was used for another request"),
  rate_limited: kind(429, "Too many requests", "later"),
  too_many_queued: kind(429, "The key has too much waiting", "later"),
  model_overloaded: waiting(429, "The model has no room"),
  insufficient_quota: kind(429, "The key has used up its tokens"),
  upstream_failed: kind(502, "The model server failed", "later"),
  upstream_unauthorized: kind(502, "The model server refuses our key"),
  model_unavailable: waiting(503, "No server of the model can be reached"),
  upstream_timeout: kind(504, "The model server was too slow", "later"),
  internal: kind(500, "Internal error", "later"),
  broker_unavailable: kind(503, "The broker does not answer", "later"),
  queue_full: kind(503, "The queue is full", "later"),
  too_many_uploads: kind(503, "Too many uploads at once", "later"),
  not_ready: kind(503, "Not ready", "later"),
  storage_unavailable: kind(503, "The object store does not answer", "later"),
  database_unavailable: kind(503, "The database does not answer", "later"),

  // Ends of tasks (`error.code` of a FAILURE). A runner may use codes of its own; these are ours.
  runner_failed: kind(0, "The runner threw", "later"),
  runner_unavailable: kind(0, "The runner is not loaded in this actor", "later"),
  invalid_input: kind(0, "The runner refused the input"),
  invalid_output: kind(0, "The runner's output does not match its schema"),
  output_too_large: kind(0, "The runner's output is too large"),
  timeout: kind(0, "The attempt took longer than timeout_ms", "later"),
  deadline_exceeded: kind(0, "The task was not started before its deadline"),
  poison: kind(0, "The task killed its process twice"),
  image_unreadable: kind(0, "The bytes are not a PNG, JPEG or WebP picture that can be decoded"),
  image_too_large: kind(0, "The picture exceeds the limit on bytes, pixels or sides"),
  audio_unreadable: kind(0, "The bytes are not a WAV, MP3, FLAC, Ogg, WebM or MP4 file"),
  audio_too_large: kind(0, "The sound exceeds the limit on bytes"),
  fetch_blocked: kind(0, "The URL does not lead to a public address"),
  fetch_failed: kind(0, "The URL could not be fetched", "later"),
  fetch_status: kind(0, "The URL answered with an error status"),
  fetch_timeout: kind(0, "The URL answered too slowly", "later"),
  fetch_too_large: kind(0, "The URL's content is too large"),
  blob_not_found: kind(0, "The object is not in the store"),
  blob_corrupt: kind(0, "The object does not match its SHA-256"),

  // Starting up and operating.
  invalid_config: kind(0, "The configuration is not valid"),
  port_taken: kind(0, "A port is taken"),
  broker_missing: kind(0, "No nats-server was found"),
  data_dir_in_use: kind(0, "Another process uses this DATA_DIR"),
  topology_conflict: kind(0, "The broker holds data that this configuration would destroy"),
  invalid_runner: kind(0, "A runner file is not valid"),
  key_not_found: kind(0, "No such key"),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorKinds;

/** One problem of a request field. `path` is a JSON Pointer (RFC 6901) from the body's root. */
export interface FieldProblem {
  readonly path: string;
  readonly message: string;
}

export interface AppErrorOptions {
  readonly cause?: unknown;
  readonly fields?: readonly FieldProblem[];
  /** Seconds after which a repeat makes sense; becomes `Retry-After`. */
  readonly retryAfterS?: number;
}

/** An expected failure. `message` may be shown to the client: it names no path, no secret and no rejected input. */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ErrorCode;
  readonly fields: readonly FieldProblem[];
  readonly retryAfterS: number | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.fields = options.fields ?? [];
    this.retryAfterS = options.retryAfterS;
  }
}

/** An `invalid_request` whose `fields` say what is wrong. */
export const invalidFields = (fields: readonly FieldProblem[]): AppError =>
  new AppError("invalid_request", "The request is not valid.", { fields });

/** Of one field; `path` is its JSON Pointer, empty for the whole body. */
export const invalidField = (path: string, message: string): AppError => invalidFields([{ path, message }]);

/** The AppError in `error`, or null. By shape and not by class, for errors that were made by another copy of this file. */
export function asAppError(error: unknown): AppError | null {
  if (
    error instanceof Error &&
    error.name === "AppError" &&
    "code" in error &&
    Object.hasOwn(errorKinds, String(error.code))
  ) {
    return error as AppError;
  }
  return null;
}

/** The text of anything thrown, for logs. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
