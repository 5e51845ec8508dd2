// The routes that act on tasks found: `POST /v1/tasks/{id}/retry` and the two bulk actions. Bodies are checked here;
// what is done to a task is the affair of tasks/retry.ts and tasks/bulk.ts.
import { invalidFields } from "../errors.ts";
import { type Check, compileSchema } from "../registry/schema.ts";
import type { Bulk, BulkItem } from "../tasks/bulk.ts";
import { cursorOf, type Position, type TaskFilter } from "../tasks/filter.ts";
import type { Page } from "../tasks/find.ts";
import type { Retry } from "../tasks/retry.ts";
import { readJson } from "./body.ts";
import { traceOf } from "./correlation.ts";
import { findOperations } from "./find-operations.ts";
import { bulkCancelSchema, bulkMax, bulkRetrySchema } from "./find-schemas.ts";
import type { Holds } from "./holds.ts";
import type { Links } from "./links.ts";
import { type KeyedCall, type KeyedRoute, replyJson, taskIdOf } from "./route.ts";
import { acceptedHeaders, idempotencyKeyOf } from "./submit.ts";
import { type FilterFields, filterOf, placeOf } from "./task-filter.ts";

export function bulkRoutes(bulk: Bulk, retry: Retry, holds: Holds, links: Links): readonly KeyedRoute[] {
  const post = { access: "key", method: "POST" } as const;
  return [
    {
      ...post,
      path: "/v1/tasks/{id}/retry",
      operation: findOperations.retryTask,
      handle: createRetryOne(retry, links),
    },
    {
      ...post,
      path: "/v1/tasks/cancel",
      operation: findOperations.cancelTasks,
      handle: createBulkRoute(bulkCancelSchema, holds, ({ owner }, { filter, after, limit }, signal) =>
        bulk.cancel(owner, filter, after, limit, signal),
      ),
    },
    {
      ...post,
      path: "/v1/tasks/retry",
      operation: findOperations.retryTasks,
      handle: createBulkRoute(bulkRetrySchema, holds, ({ owner, request }, { filter, after, limit }, signal) =>
        bulk.retry(owner, filter, after, limit, traceOf(request), signal),
      ),
    },
  ];
}

function createRetryOne(retry: Retry, links: Links): (call: KeyedCall) => Promise<Response> {
  return async (call) => {
    const { request, owner } = call;
    const taskId = taskIdOf(call);
    const accepted = await retry(taskId, owner, traceOf(request), idempotencyKeyOf(request));
    const { taskId: id, status, replayed } = accepted;
    const json = JSON.stringify({ task_id: id, status, urls: links.urls(id, owner), retry_of: taskId });
    return replyJson(call, replayed ? 200 : 202, json, acceptedHeaders(accepted));
  };
}

interface Asked {
  readonly filter: TaskFilter;
  readonly after: Position | null;
  readonly limit: number;
}

function createBulkRoute(
  schema: object,
  holds: Holds,
  act: (call: KeyedCall, asked: Asked, signal: AbortSignal) => Promise<Page<BulkItem>>,
): (call: KeyedCall) => Promise<Response> {
  const check = compileSchema(schema);
  return async (call) => {
    const asked = askedOf(await readJson(call), check);
    const hold = holds.open(call);
    try {
      return replyJson(call, 200, JSON.stringify(resultOf(await act(call, asked, hold.signal))));
    } finally {
      hold.release();
    }
  };
}

function askedOf(body: unknown, check: Check): Asked {
  const fields = check(body);
  if (fields.length > 0) throw invalidFields(fields);
  const { filter, cursor, limit = bulkMax } = body as { filter: FilterFields; cursor?: string; limit?: number };
  return { filter: filterOf(filter, "/filter"), after: placeOf(cursor), limit };
}

function resultOf({ items, next }: Page<BulkItem>): object {
  const count = (outcome: BulkItem["outcome"]): number => items.filter((item) => item.outcome === outcome).length;
  return {
    object: "bulk_result",
    accepted: count("accepted"),
    skipped: count("skipped"),
    failed: count("failed"),
    data: items.map(({ taskId, outcome, retriedAs, code }) => ({
      task_id: taskId,
      outcome,
      ...(retriedAs !== undefined && { retried_as: retriedAs }),
      ...(code !== undefined && { code }),
    })),
    has_more: next !== null,
    next_cursor: next && cursorOf(next),
  };
}
