// `GET /v1/tasks/{id}/events`: checks what the client can take and where it resumes, then hands its socket over to
// event-stream.ts. Answers 204 when the client has seen the end already, which tells an EventSource to stop.
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Tasks } from "../tasks/tasks.ts";
import { type EventStreamLimits, eventStream, eventStreamLimits } from "./event-stream.ts";
import type { Holds } from "./holds.ts";
import { queryOf } from "./query.ts";
import { type KeyedCall, reply, replyEmpty, taskIdOf } from "./route.ts";

const EVENT_ID = /^\d{1,6}\.\d{1,12}$/;
const mediaType = "text/event-stream";

/** The handler; `limits` are given by tests alone. */
export function createEvents(
  tasks: Tasks,
  holds: Holds,
  log: Log,
  limits: EventStreamLimits = eventStreamLimits,
): (call: KeyedCall) => Promise<Response> {
  return async (call) => {
    const taskId = taskIdOf(call);
    if (!acceptsEventStream(call.request.headers.get("accept"))) {
      throw new AppError("not_acceptable", "This path answers text/event-stream.");
    }
    const lastEventId = lastEventIdOf(call.request);
    if (call.request.method === "HEAD") {
      await tasks.read(taskId, call.owner);
      return reply(call, 200, mediaType, new ReadableStream({ start: (controller) => controller.close() }));
    }
    const hold = holds.open(call, "stream");
    try {
      const events = await tasks.events(taskId, call.owner, lastEventId, hold.signal);
      if (events === null) {
        hold.release();
        return replyEmpty(call, 204);
      }
      const onFailure = (error: unknown): void => {
        log.warn({ request_id: call.requestId, task_id: taskId, error: messageOf(error) }, "events.failed");
      };
      // x-accel-buffering: nginx would otherwise keep events until a buffer is full.
      return reply(call, 200, mediaType, eventStream(events, hold, onFailure, limits), { "x-accel-buffering": "no" });
    } catch (error) {
      hold.release();
      throw error;
    }
  };
}

/** `Last-Event-ID`, or `?last_event_id=` for clients that cannot set headers. Throws `invalid_request`. */
function lastEventIdOf(request: Request): string | null {
  const header = request.headers.get("last-event-id") || null;
  const value = header ?? (queryOf(request)?.get("last_event_id") || null);
  if (value !== null && !EVENT_ID.test(value)) {
    throw new AppError("invalid_request", "The last event id is not one of this stream.", {
      fields: [
        { path: header === null ? "/last_event_id" : "/Last-Event-ID", message: "must be <attempt>.<n>, such as 1.4" },
      ],
    });
  }
  return value;
}

/** Whether an `Accept` header lets an event stream through (RFC 9110 §12.5.1): the most specific range decides. */
export function acceptsEventStream(header: string | null): boolean {
  if (header === null || header.trim() === "") return true;
  let best = -1;
  let accepted = false;
  for (const part of header.toLowerCase().split(",")) {
    const [range = "", ...parameters] = part.split(";").map((piece) => piece.trim());
    const rank = ["*/*", "text/*", mediaType].indexOf(range);
    if (rank <= best) continue;
    best = rank;
    accepted = !parameters.some((parameter) => /^q=0(\.0{0,3})?$/.test(parameter));
  }
  return accepted;
}
