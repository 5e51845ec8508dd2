// The routes of what a task holds of its owner: links that let somebody else read it, and erasing it.
import { invalidFields } from "../errors.ts";
import { compileSchema } from "../registry/schema.ts";
import type { Erase } from "../tasks/erase.ts";
import type { Tasks } from "../tasks/tasks.ts";
import { readJson } from "./body.ts";
import type { Links } from "./links.ts";
import { type KeyedCall, type KeyedRoute, replyJson, taskIdOf } from "./route.ts";
import { taskDataOperations } from "./task-data-operations.ts";
import { linkSecondsDefault, linksRequestSchema } from "./task-data-schemas.ts";

export function taskDataRoutes(tasks: Tasks, erase: Erase, links: Links): readonly KeyedRoute[] {
  return [
    {
      access: "key",
      method: "POST",
      path: "/v1/tasks/{id}/links",
      scope: "tasks:read",
      operation: taskDataOperations.createTaskLinks,
      handle: createLinksRoute(tasks, links),
    },
    {
      access: "key",
      method: "DELETE",
      path: "/v1/tasks/{id}/data",
      operation: taskDataOperations.deleteTaskData,
      handle: async (call) => replyJson(call, 200, (await erase(taskIdOf(call), call.owner)).json),
    },
  ];
}

function createLinksRoute(tasks: Tasks, links: Links): (call: KeyedCall) => Promise<Response> {
  const check = compileSchema(linksRequestSchema);
  return async (call) => {
    const taskId = taskIdOf(call);
    const body = await readJson(call);
    const fields = check(body);
    if (fields.length > 0) throw invalidFields(fields);
    const { expires_in_s: ttlS = linkSecondsDefault } = body as { expires_in_s?: number };
    await tasks.read(taskId, call.owner); // throws for a task that does not exist for this key
    return replyJson(call, 200, JSON.stringify(links.signed(taskId, call.owner, ttlS)));
  };
}
