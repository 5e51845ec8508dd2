// The routes of tasks: who asks is known, ids are checked here, and all that a task is stays behind the Tasks contract.
// A malformed id is answered as unknown without a question to the broker.
import type { Blobs } from "../blobs/blobs.ts";
import type { Log } from "../log.ts";
import type { Models } from "../models/models.ts";
import type { Tasks } from "../tasks/tasks.ts";
import { createBatch } from "./batch.ts";
import { createEvents } from "./events.ts";
import type { Holds } from "./holds.ts";
import type { Links } from "./links.ts";
import { operations } from "./operations.ts";
import { preferredWaitS, queriedWaitS } from "./prefer.ts";
import { queryOf } from "./query.ts";
import { queueOperations } from "./queue-operations.ts";
import { createResult } from "./result.ts";
import { type KeyedCall, type KeyedRoute, replyJson, taskIdOf } from "./route.ts";
import { createSubmit } from "./submit.ts";

export interface TaskRouteParts {
  readonly tasks: Tasks;
  readonly models: Models;
  readonly blobs: Blobs;
  readonly holds: Holds;
  readonly links: Links;
  readonly log: Log;
}

export function taskRoutes({ tasks, models, blobs, holds, links, log }: TaskRouteParts): readonly KeyedRoute[] {
  const task = { access: "key", path: "/v1/tasks/{id}" } as const;
  const cancel = createCancel(tasks);
  return [
    {
      access: "key",
      method: "POST",
      path: "/v1/tasks",
      operation: operations.submitTask,
      handle: createSubmit(tasks, models, holds, links),
    },
    {
      access: "key",
      method: "POST",
      path: "/v1/tasks/batch",
      operation: queueOperations.submitBatch,
      handle: createBatch(tasks, models, holds, links, log),
    },
    { ...task, method: "GET", operation: operations.getTask, handle: createRead(tasks, holds) },
    { ...task, method: "DELETE", operation: operations.deleteTask, handle: cancel },
    {
      access: "key",
      method: "GET",
      path: "/v1/tasks/{id}/events",
      byTicket: true,
      operation: operations.streamTaskEvents,
      handle: createEvents(tasks, holds, log),
    },
    {
      access: "key",
      method: "GET",
      path: "/v1/tasks/{id}/result",
      byTicket: true,
      operation: operations.getTaskResult,
      handle: createResult(tasks, blobs),
    },
    {
      access: "key",
      method: "GET",
      path: "/v1/tasks/{id}/timeline",
      operation: queueOperations.getTaskTimeline,
      handle: async (call) => replyJson(call, 200, JSON.stringify(await tasks.timeline(taskIdOf(call), call.owner))),
    },
    { access: "key", method: "POST", path: "/v1/tasks/{id}/cancel", operation: operations.cancelTask, handle: cancel },
  ];
}

/** `GET /v1/tasks/{id}`, held for up to 60 s when the client prefers that. */
function createRead(tasks: Tasks, holds: Holds): (call: KeyedCall) => Promise<Response> {
  return async (call) => {
    const taskId = taskIdOf(call);
    const query = queryOf(call.request);
    const preferredS = preferredWaitS(call.request.headers.get("prefer"));
    const waitS = (query && queriedWaitS(query)) ?? preferredS;
    if (waitS === null) return replyJson(call, 200, (await tasks.read(taskId, call.owner)).json);

    const hold = holds.open(call);
    try {
      const view = await tasks.wait(taskId, call.owner, waitS * 1_000, hold.signal);
      const headers = preferredS === waitS ? { "preference-applied": `wait=${waitS}` } : undefined;
      return replyJson(call, view.terminal ? 200 : 202, view.json, headers);
    } finally {
      hold.release();
    }
  };
}

/** `POST /v1/tasks/{id}/cancel` and its short form `DELETE /v1/tasks/{id}`. A body is not looked at. */
function createCancel(tasks: Tasks): (call: KeyedCall) => Promise<Response> {
  return async (call) => {
    const taskId = taskIdOf(call);
    const { status, cancelRequestedAt } = await tasks.cancel(taskId, call.owner);
    return replyJson(call, 202, JSON.stringify({ task_id: taskId, status, cancel_requested_at: cancelRequestedAt }));
  };
}
