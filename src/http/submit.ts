// `POST /v1/tasks`, the hot path: a body becomes a TaskRequest that has passed its own schema and the model's, and is
// handed to the tasks. Nothing is published for a request that fails here, and no field of it is dropped in silence.
import { AppError, asAppError, type FieldProblem, invalidField, invalidFields } from "../errors.ts";
import type { Models } from "../models/models.ts";
import { compileSchema } from "../registry/schema.ts";
import type { Status } from "../tasks/task.ts";
import type { Accepted, Owner, TaskRequest, Tasks } from "../tasks/tasks.ts";
import { readJson } from "./body.ts";
import { traceOf } from "./correlation.ts";
import type { Hold, Holds } from "./holds.ts";
import type { Links } from "./links.ts";
import { preferredWaitS } from "./prefer.ts";
import { type KeyedCall, replyJson } from "./route.ts";
import { clientRequestIdPattern, taskRequestSchema } from "./schemas.ts";

const CLIENT_REQUEST_ID = new RegExp(clientRequestIdPattern);

/** The handler of `POST /v1/tasks`. */
export function createSubmit(
  tasks: Tasks,
  models: Models,
  holds: Holds,
  links: Links,
): (call: KeyedCall) => Promise<Response> {
  const take = createTaker(tasks, models);
  return async (call) => {
    const { request } = call;
    const body = withAlias(await readJson(call), request);
    const accepted = await take(body, call);
    // Who may not read tasks is told that its own was taken, and no more.
    const waitS = call.owner.scopes.has("tasks:read") ? preferredWaitS(request.headers.get("prefer")) : null;
    if (waitS === null) return acceptedReply(call, accepted, links);
    return await waitedReply(call, accepted, waitS, tasks, holds, links);
  };
}

/** From a body to a kept task: what a submission does with its body, and a batch with each of its items. */
export function createTaker(tasks: Tasks, models: Models): (body: unknown, call: KeyedCall) => Promise<Accepted> {
  const check = createTaskCheck(models);
  return async (body, { owner, request }) => {
    const task = check(body);
    return tasks.accept(task, owner, traceOf(request));
  };
}

/** The body of a task, checked against its schema and the model's. Throws `invalid_request`, `unknown_model`. */
export function createTaskCheck(models: Models): (body: unknown) => TaskRequest {
  const check = compileSchema(taskRequestSchema);
  return (body) => checked(body, check, models);
}

/** The `Idempotency-Key` of a request, or null; the quotes of its draft's string form are optional. */
export function idempotencyKeyOf(request: Request): string | null {
  const header = request.headers.get("idempotency-key");
  if (header === null) return null;
  const key = /^"(.*)"$/.exec(header)?.[1] ?? header;
  if (!CLIENT_REQUEST_ID.test(key)) throw invalidField("", "Idempotency-Key must be 1 to 255 visible ASCII characters");
  return key;
}

/** `Idempotency-Key` is another name of `client_request_id`. */
function withAlias(body: unknown, request: Request): unknown {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return body;
  const key = idempotencyKeyOf(request);
  if (key === null) return body;
  const given = (body as { client_request_id?: unknown }).client_request_id;
  if (given !== undefined && given !== key) {
    throw invalidField("/client_request_id", "differs from the Idempotency-Key header, which is the same thing");
  }
  return { ...body, client_request_id: key };
}

function checked(body: unknown, check: (value: unknown) => readonly FieldProblem[], models: Models): TaskRequest {
  const fields = check(body);
  if (fields.length > 0) throw invalidFields(fields);
  const task = body as TaskRequest;
  if (!models.knows(task.model)) {
    const where =
      "GET /v1/models lists them as kind runner; a language model is named in the input of chat and its like.";
    throw new AppError("unknown_model", `No actor offers this runner. ${where}`);
  }
  const inputProblems = models.check(task.model, task.input);
  if (inputProblems.length > 0) {
    const fields = inputProblems.map(({ path, message }) => ({ path: `/input${path}`, message }));
    throw new AppError("invalid_request", "The input does not match the model's schema.", { fields });
  }
  return task;
}

/** Only ids, statuses and paths of ours go in: nothing needs escaping. */
function acceptedJson(id: string, status: Status, owner: Owner, links: Links): string {
  const { self, events, result, cancel } = links.urls(id, owner);
  const urls = `{"self":"${self}","events":"${events}","result":"${result}","cancel":"${cancel}"}`;
  return `{"task_id":"${id}","status":"${status}","urls":${urls}}`;
}

export function acceptedHeaders(accepted: Accepted): Record<string, string> {
  const headers: Record<string, string> = { location: `/v1/tasks/${accepted.taskId}` };
  if (accepted.replayed) headers["idempotency-replayed"] = "true";
  return headers;
}

const acceptedReply = (call: KeyedCall, accepted: Accepted, links: Links): Response =>
  replyJson(
    call,
    accepted.replayed ? 200 : 202,
    acceptedJson(accepted.taskId, accepted.status, call.owner, links),
    acceptedHeaders(accepted),
  );

/** Null where no place to wait is left: a wait is a wish (RFC 7240), and the task is taken already. */
function holdFor(call: KeyedCall, holds: Holds): Hold | null {
  try {
    return holds.open(call);
  } catch (error) {
    if (asAppError(error)?.code === "not_ready") return null;
    throw error;
  }
}

async function waitedReply(
  call: KeyedCall,
  accepted: Accepted,
  waitS: number,
  tasks: Tasks,
  holds: Holds,
  links: Links,
): Promise<Response> {
  const hold = holdFor(call, holds);
  if (hold === null) return acceptedReply(call, accepted, links);
  try {
    const view = await tasks.wait(accepted.taskId, call.owner, waitS * 1_000, hold.signal);
    const headers = { ...acceptedHeaders(accepted), "preference-applied": `wait=${waitS}` };
    if (view.terminal) return replyJson(call, 200, view.json, headers);
    return replyJson(call, 202, acceptedJson(accepted.taskId, view.status, call.owner, links), headers);
  } finally {
    hold.release();
  }
}
