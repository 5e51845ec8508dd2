// The routes that find tasks. What a filter may say is checked here; what it finds, and that it is the caller's own, is
// the affair of tasks/find.ts.
import { compileSchema } from "../registry/schema.ts";
import { cursorOf } from "../tasks/filter.ts";
import type { Find } from "../tasks/find.ts";
import { findOperations } from "./find-operations.ts";
import { listQuerySchema, pageDefault } from "./find-schemas.ts";
import { queryOf } from "./query.ts";
import { type KeyedCall, type KeyedRoute, replyJson } from "./route.ts";
import { filterOf, listFields, placeOf } from "./task-filter.ts";

export function findRoutes(find: Find): readonly KeyedRoute[] {
  return [
    {
      access: "key",
      method: "GET",
      path: "/v1/tasks",
      operation: findOperations.listTasks,
      handle: createList(find),
    },
  ];
}

/** `GET /v1/tasks`. */
function createList(find: Find): (call: KeyedCall) => Promise<Response> {
  const check = compileSchema(listQuerySchema);
  return async (call) => {
    const { limit = pageDefault, cursor, ...fields } = listFields(queryOf(call.request), check);
    const { items, next } = await find.tasks(call.owner, filterOf(fields), placeOf(cursor), limit);
    const data = items.map(({ json }) => json).join(",");
    const nextCursor = next ? `"${cursorOf(next)}"` : "null";
    return replyJson(
      call,
      200,
      `{"object":"list","data":[${data}],"has_more":${next !== null},"next_cursor":${nextCursor}}`,
    );
  };
}
