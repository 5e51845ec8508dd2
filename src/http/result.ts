// `GET /v1/tasks/{id}/result`: what the task made, as JSON or as the stored bytes. The bytes come from a model that was
// fed by a stranger: they are sent so that no browser runs them (attachment, sandbox, nosniff).
import type { Blobs } from "../blobs/blobs.ts";
import type { Tasks } from "../tasks/tasks.ts";
import { type KeyedCall, replyJson, taskIdOf } from "./route.ts";
import { inertPolicy, sendBlob } from "./send-blob.ts";

export function createResult(tasks: Tasks, blobs: Blobs): (call: KeyedCall) => Promise<Response> {
  return async (call) => {
    const taskId = taskIdOf(call);
    const result = await tasks.result(taskId, call.owner);
    if (result === null) {
      const view = await tasks.read(taskId, call.owner);
      return replyJson(call, 202, view.json, { "retry-after": "1" });
    }
    if (result.kind === "json") return replyJson(call, 200, result.json, { "content-security-policy": inertPolicy });
    return sendBlob(call, result, `${taskId}${extensionOf(result.key)}`, blobs);
  };
}

/** `.png` of `results/<id>-<fence>.png`; empty when the key has no plain extension. */
const extensionOf = (key: string): string => /\.[a-z0-9]{1,8}$/.exec(key)?.[0] ?? "";
