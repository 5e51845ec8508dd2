// The routes of schedules: a body becomes a ScheduleRequest whose task has passed the checks of POST /v1/tasks, and rows
// become the public object. When they fire is decided in tasks/schedules.ts.
import { rfc3339 } from "../clock.ts";
import { asAppError, type FieldProblem, invalidField, invalidFields } from "../errors.ts";
import { isTaskId } from "../ids.ts";
import type { Models } from "../models/models.ts";
import { compileSchema } from "../registry/schema.ts";
import type { ScheduleRow } from "../tasks/schedule-store.ts";
import type { ScheduleRequest, Schedules } from "../tasks/schedules.ts";
import type { TaskRequest } from "../tasks/tasks.ts";
import { readJson } from "./body.ts";
import { invalidQuery, pointerTo, queryOf } from "./query.ts";
import { type KeyedCall, type KeyedRoute, replyEmpty, replyJson } from "./route.ts";
import { scheduleOperations } from "./schedule-operations.ts";
import { schedulePageDefault, schedulePageMax, scheduleRequestSchema } from "./schedule-schemas.ts";
import { createTaskCheck } from "./submit.ts";

export function scheduleRoutes(schedules: Schedules, models: Models): readonly KeyedRoute[] {
  const all = { access: "key", path: "/v1/schedules" } as const;
  const one = { access: "key", path: "/v1/schedules/{id}" } as const;
  return [
    { ...all, method: "POST", operation: scheduleOperations.createSchedule, handle: createCreate(schedules, models) },
    {
      ...all,
      method: "GET",
      operation: scheduleOperations.listSchedules,
      async handle(call) {
        const { limit, cursor } = pageOf(call.request);
        const rows = await schedules.list(call.owner, cursor, limit + 1);
        const data = rows.slice(0, limit).map(publicSchedule);
        const hasMore = rows.length > limit;
        const page = {
          object: "list",
          data,
          has_more: hasMore,
          next_cursor: hasMore ? data.at(-1)?.schedule_id : null,
        };
        return replyJson(call, 200, JSON.stringify(page));
      },
    },
    {
      ...one,
      method: "GET",
      operation: scheduleOperations.getSchedule,
      handle: async (call) =>
        replyJson(call, 200, JSON.stringify(publicSchedule(await schedules.get(call.id, call.owner)))),
    },
    {
      ...one,
      method: "DELETE",
      operation: scheduleOperations.deleteSchedule,
      async handle(call) {
        await schedules.remove(call.id, call.owner);
        return replyEmpty(call, 204);
      },
    },
  ];
}

/** What a task of a schedule may not say, and why. */
const ofEachOccurrence = "belongs to each occurrence: the schedule gives it";
const notScheduled: readonly (keyof TaskRequest)[] = ["client_request_id", "run_at", "delay_ms", "deadline"];

/** The handler of `POST /v1/schedules`. */
function createCreate(schedules: Schedules, models: Models): (call: KeyedCall) => Promise<Response> {
  const check = compileSchema(scheduleRequestSchema);
  const checkTask = createTaskCheck(models);
  return async (call) => {
    if (call.request.headers.has("idempotency-key")) {
      throw invalidField("", "Idempotency-Key is not served here");
    }
    const body = await readJson(call);
    const problems = check(body);
    if (problems.length > 0) throw invalidFields(problems);
    const request = body as ScheduleRequest;
    const given = notScheduled.filter((name) => Object.hasOwn(request.task, name));
    if (given.length > 0)
      throw invalidFields(given.map((name) => ({ path: `/task/${name}`, message: ofEachOccurrence })));
    const task = inTask(() => checkTask(request.task));
    const row = await schedules.create({ ...request, task }, call.owner);
    const location = `/v1/schedules/${row.id}`;
    return replyJson(call, 201, JSON.stringify(publicSchedule(row)), { location });
  };
}

/** The problems of a task, by their paths in the schedule that holds it. */
function inTask(check: () => TaskRequest): TaskRequest {
  try {
    return check();
  } catch (error) {
    const known = asAppError(error);
    if (!known || known.fields.length === 0) throw error;
    throw invalidFields(known.fields.map(({ path, message }) => ({ path: `/task${path}`, message })));
  }
}

/** Throws `invalid_request`. */
function pageOf(request: Request): { limit: number; cursor: string | null } {
  const query = queryOf(request) ?? new URLSearchParams();
  const limit = query.get("limit") ?? String(schedulePageDefault);
  const cursor = query.get("cursor");
  const unknown = [...query.keys()].find((name) => name !== "limit" && name !== "cursor");
  const problems: FieldProblem[] = [];
  if (unknown !== undefined) problems.push({ path: pointerTo(unknown), message: "is not a known parameter" });
  if (!/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > schedulePageMax) {
    problems.push({ path: "/limit", message: `must be a whole number from 1 to ${schedulePageMax}` });
  }
  if (cursor !== null && !isTaskId(cursor))
    problems.push({ path: "/cursor", message: "must be next_cursor of a page" });
  if (problems.length > 0) throw invalidQuery(problems);
  return { limit: Number(limit), cursor };
}

const timeOrNull = (ms: number | null): string | null => (ms === null ? null : rfc3339(ms));

const publicSchedule = (row: ScheduleRow) => ({
  schedule_id: row.id,
  object: "schedule",
  name: row.name,
  cron: row.cron,
  timezone: row.timezone,
  task: JSON.parse(row.task) as TaskRequest,
  created_at: rfc3339(row.createdMs),
  next_run_at: timeOrNull(row.nextMs),
  last_run_at: timeOrNull(row.lastMs),
  last_task_id: row.lastTaskId,
  last_error: row.lastError,
});
