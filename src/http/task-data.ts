// The routes of what a task holds of its owner: erasing it.
import type { Erase } from "../tasks/erase.ts";
import { type KeyedRoute, replyJson, taskIdOf } from "./route.ts";
import { taskDataOperations } from "./task-data-operations.ts";

export function taskDataRoutes(erase: Erase): readonly KeyedRoute[] {
  return [
    {
      access: "key",
      method: "DELETE",
      path: "/v1/tasks/{id}/data",
      operation: taskDataOperations.deleteTaskData,
      handle: async (call) => replyJson(call, 200, (await erase(taskIdOf(call), call.owner)).json),
    },
  ];
}
