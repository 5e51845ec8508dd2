// The JSON Schemas of schedules: the first checks bodies, the others describe answers. Pure data.
import { CRON_CHARS_MAX, timezonePattern } from "../tasks/cron.ts";
import { SCHEDULED_TASK_BYTES_MAX } from "../tasks/schedules.ts";

export const schedulePageDefault = 20;
export const schedulePageMax = 100;

const cron = {
  type: "string",
  minLength: 1,
  maxLength: CRON_CHARS_MAX,
  description:
    "Minute, hour, day of the month, month and weekday (0 or 7 is Sunday; names such as MON and JAN), or @hourly, " +
    "@daily, @weekly, @monthly, @yearly. Where both days are restricted, either may match.",
  examples: ["30 6 * * MON-FRI"],
};
const timezone = {
  type: "string",
  pattern: timezonePattern,
  default: "UTC",
  description:
    "Zone of the tz database in which the expression is read. A time that a clock change leaves out occurs right after " +
    "the gap; one that comes twice occurs the first time, or both times where the hour is `*` or a step.",
  examples: ["Europe/Berlin"],
};
const name = { type: "string", minLength: 1, maxLength: 100, description: "Your name for it." };
const time = (what: string): object => ({
  type: ["string", "null"],
  format: "date-time",
  description: `${what} (RFC 3339, UTC, milliseconds).`,
});

export const scheduleRequestSchema = {
  type: "object",
  description: "Makes a task at every occurrence of a cron expression.",
  additionalProperties: false,
  required: ["cron", "task"],
  properties: { name, cron, timezone, task: { type: "object" } },
} as const;

const scheduledTask = {
  allOf: [{ $ref: "#/components/schemas/TaskRequest" }],
  description:
    `The body of POST /v1/tasks for each occurrence, at most ${SCHEDULED_TASK_BYTES_MAX / 1024} KiB, without ` +
    "`client_request_id`, `run_at`, `delay_ms` and `deadline`.",
};

/** By the names under which OpenAPI's `components.schemas` lists them. */
export const scheduleSchemas: Readonly<Record<string, object>> = {
  ScheduleRequest: {
    ...scheduleRequestSchema,
    properties: { ...scheduleRequestSchema.properties, task: scheduledTask },
  },
  Schedule: {
    type: "object",
    description: "A cron schedule. Each occurrence is a task of its own.",
    required: ["schedule_id", "object", "cron", "timezone", "task", "created_at", "next_run_at"],
    properties: {
      schedule_id: { type: "string", description: "Its id: 26 characters of lower-case base32." },
      object: { type: "string", const: "schedule", description: "Always `schedule`." },
      name: { ...name, type: ["string", "null"] },
      cron,
      timezone,
      task: scheduledTask,
      created_at: { ...time("When it was made"), type: "string" },
      next_run_at: time("The occurrence that comes next"),
      last_run_at: time("The last occurrence that made a task"),
      last_task_id: { type: ["string", "null"], description: "The task of that occurrence." },
      last_error: {
        type: ["string", "null"],
        description: "Code with which the last occurrence was refused and passed over; null where it made its task.",
      },
    },
  },
  ScheduleList: {
    type: "object",
    description: "A page of schedules, newest first.",
    required: ["object", "data", "has_more", "next_cursor"],
    properties: {
      object: { type: "string", const: "list", description: "Always `list`." },
      data: { type: "array", description: "The schedules.", items: { $ref: "#/components/schemas/Schedule" } },
      has_more: { type: "boolean", description: "Whether more follow." },
      next_cursor: { type: ["string", "null"], description: "`cursor` of the next page; null on the last." },
    },
  },
};
