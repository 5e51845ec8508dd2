// What OpenAPI says about the routes of schedules. Data only.
import { SCHEDULES_PER_KEY_MAX } from "../tasks/schedules.ts";
import { json } from "./operations.ts";
import type { Operation, Parameter } from "./route.ts";
import { schedulePageDefault, schedulePageMax } from "./schedule-schemas.ts";

const exampleId = "01jd5w3v9m7k2q4x8n6t0r5y1z";
const request = {
  name: "nightly",
  cron: "30 2 * * *",
  timezone: "Europe/Berlin",
  task: { model: "superres-x4", input: { image_url: "https://example.com/a.jpg" }, priority: "low" },
};
const schedule = {
  schedule_id: exampleId,
  object: "schedule",
  ...request,
  created_at: "2026-11-21T10:00:00.000Z",
  next_run_at: "2026-11-23T01:30:00.000Z",
  last_run_at: "2026-11-22T01:30:00.000Z",
  last_task_id: "01jd7w3v9m7k2q4x8n6t0r5y1z",
  last_error: null,
};

const id: Parameter = {
  name: "id",
  in: "path",
  description: "The schedule's id.",
  schema: { type: "string" },
  example: exampleId,
};

const createSchedule: Operation = {
  id: "createSchedule",
  tag: "Schedules",
  summary: "Schedule tasks",
  description:
    "Makes a task at every occurrence of a cron expression in a time zone. Each is a task of its own, of this key, " +
    "with the `client_request_id` `cron:<schedule_id>:<occurrence>`. What was missed while the service was down fires " +
    `once, when it is up again. A key has at most ${SCHEDULES_PER_KEY_MAX} schedules; one of a revoked key does not fire.`,
  body: { schema: "ScheduleRequest", example: request },
  answers: { "201": json("The schedule.", "Schedule", schedule, { Location: "Path of the schedule." }) },
  errors: [
    "invalid_json",
    "unknown_model",
    "request_timeout",
    "too_many_schedules",
    "payload_too_large",
    "unsupported_media_type",
    "invalid_request",
    "not_ready",
    "database_unavailable",
  ],
};

const listSchedules: Operation = {
  id: "listSchedules",
  tag: "Schedules",
  summary: "List schedules",
  description: "The key's own schedules, newest first.",
  parameters: [
    {
      name: "limit",
      in: "query",
      description: "Schedules of a page.",
      schema: { type: "integer", minimum: 1, maximum: schedulePageMax, default: schedulePageDefault },
      example: schedulePageDefault,
    },
    {
      name: "cursor",
      in: "query",
      description: "`next_cursor` of the page before.",
      schema: { type: "string" },
      example: exampleId,
    },
  ],
  answers: {
    "200": json("A page of schedules.", "ScheduleList", {
      object: "list",
      data: [schedule],
      has_more: false,
      next_cursor: null,
    }),
  },
  errors: ["invalid_request", "not_ready", "database_unavailable"],
};

const getSchedule: Operation = {
  id: "getSchedule",
  tag: "Schedules",
  summary: "Read a schedule",
  description: "The schedule, when it fires next, and the task that it made last.",
  parameters: [id],
  answers: { "200": json("The schedule.", "Schedule", schedule) },
  errors: ["schedule_not_found", "not_ready", "database_unavailable"],
};

const deleteSchedule: Operation = {
  id: "deleteSchedule",
  tag: "Schedules",
  summary: "Delete a schedule",
  description: "It fires no more. Tasks that it has made go on; cancel them one by one.",
  parameters: [id],
  answers: { "204": { description: "It is gone." } },
  errors: ["schedule_not_found", "not_ready", "database_unavailable"],
};

export const scheduleOperations = { createSchedule, listSchedules, getSchedule, deleteSchedule };
