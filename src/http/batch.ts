// `POST /v1/tasks/batch`: many submissions in one request, each accepted or refused for itself, answered in order. An
// item goes the way of `POST /v1/tasks`; nothing is undone when another fails. It never has more than a bounded number of
// items under way, so that one large batch does not hold up the other clients of this gateway.
import { AppError, invalidFields } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Models } from "../models/models.ts";
import { compileSchema } from "../registry/schema.ts";
import type { Accepted, Tasks } from "../tasks/tasks.ts";
import { readJson } from "./body.ts";
import type { Holds } from "./holds.ts";
import type { Links } from "./links.ts";
import { problemItem } from "./problem.ts";
import { batchItemsMax } from "./queue-schemas.ts";
import { type KeyedCall, replyJson } from "./route.ts";
import { createTaker } from "./submit.ts";

/** Keys of the whole body: each item may have a model's usual input and its metadata. */
export const batchKeysMax = 50_000;
/** Items that wait for the broker at once. */
const underWayMax = 64;
/** Items that are refused wait for nothing: the loop is given back to the other clients so often. */
const turnMsMax = 5;
/** What has not been tried by then is answered as such; the client still waits. */
const batchMsMax = 30_000;
const bodyMsMax = 60_000;

/** Items are checked one by one, as tasks: here only that there is a list of them. */
const batchSchema = {
  type: "object",
  additionalProperties: false,
  required: ["tasks"],
  properties: { tasks: { type: "array", minItems: 1, maxItems: batchItemsMax } },
} as const;

/** `status` is the HTTP status that the item alone would have been answered with. */
type Item = ReturnType<typeof takenItem> | ReturnType<typeof problemItem>;

/** The handler of `POST /v1/tasks/batch`. */
export function createBatch(
  tasks: Tasks,
  models: Models,
  holds: Holds,
  links: Links,
  log: Log,
): (call: KeyedCall) => Promise<Response> {
  const check = compileSchema(batchSchema);
  const take = createTaker(tasks, models);
  return async (call) => {
    if (call.request.headers.has("idempotency-key")) {
      const message = "give each task a client_request_id: one key cannot name many tasks";
      throw new AppError("invalid_request", message, {
        fields: [{ path: "", message: `Idempotency-Key: ${message}` }],
      });
    }
    const body = await readJson(call, bodyMsMax, batchKeysMax);
    const fields = check(body);
    if (fields.length > 0) throw invalidFields(fields);
    const hold = holds.open(call);
    const late = setTimeout(hold.abort, batchMsMax);
    const takeItem = async (item: unknown): Promise<Item> => {
      try {
        if (hold.signal.aborted) throw notTried();
        const accepted = await take(item, call);
        return takenItem(accepted, links.urls(accepted.taskId, call.owner));
      } catch (error) {
        return problemItem(error, call, log);
      }
    };
    try {
      const items = await inOrder((body as { tasks: readonly unknown[] }).tasks, underWayMax, takeItem);
      const accepted = items.filter((item) => "task_id" in item).length;
      const answer = { object: "batch", accepted, refused: items.length - accepted, results: items };
      return replyJson(call, 200, JSON.stringify(answer));
    } finally {
      clearTimeout(late);
      hold.release();
    }
  };
}

const takenItem = ({ taskId, status, replayed }: Accepted, urls: object) => ({
  status: replayed ? 200 : 202,
  task_id: taskId,
  task_status: status,
  urls,
});

const notTried = (): AppError =>
  new AppError("not_ready", "This item was not tried: the batch took too long, or this gateway stops.");

/** What `work` makes of each item, in their order, with at most `underWay` at once. */
async function inOrder<T, R>(items: readonly T[], underWay: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const waiting = items.entries();
  let turnEndsMs = performance.now() + turnMsMax;
  let next: Promise<void> | null = null;
  const nextTurn = (): Promise<void> =>
    new Promise((resolve) =>
      setImmediate(() => {
        next = null;
        turnEndsMs = performance.now() + turnMsMax;
        resolve();
      }),
    );
  const lane = async (): Promise<void> => {
    for (const [index, item] of waiting) {
      while (performance.now() > turnEndsMs) {
        next ??= nextTurn();
        await next;
      }
      results[index] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: Math.min(underWay, items.length) }, lane));
  return results;
}
