// The JSON Schemas of finding tasks: what may be asked of them, and pages. task-filter.ts checks queries and bodies
// against the filter; schemas.ts publishes all of it. Pure data, never changed at run time.
import { isTerminal, priorities, type Status, statuses } from "../tasks/task.ts";
import { metadataNamePattern, modelPattern } from "./schemas.ts";

/** Tasks on a page. */
export const pageMax = 100;
export const pageDefault = 20;

const dateTime = (description: string): object => ({ type: "string", format: "date-time", maxLength: 40, description });

/** The fields of a filter; each one that is given must hold. */
export const filterProperties = {
  status: { type: "string", enum: [...statuses], description: "Tasks in this state." },
  model: { type: "string", pattern: modelPattern, description: "Tasks of this model." },
  priority: { type: "string", enum: [...priorities], description: "Tasks of this level." },
  q: {
    type: "string",
    minLength: 1,
    maxLength: 200,
    description:
      "Words that all stand in the input or in the error, in any order and case, also within longer words. The first " +
      "4,000 characters of an input's values are searched; inputs over 16 KiB are not.",
    examples: ["gardens night"],
  },
  metadata: {
    type: "object",
    maxProperties: 16,
    propertyNames: { pattern: metadataNamePattern },
    additionalProperties: { type: "string", maxLength: 512 },
    description: "Tasks whose metadata has these fields with just these values.",
    examples: [{ order: "4711" }],
  },
  created_after: dateTime("Tasks accepted at this time or later (RFC 3339)."),
  created_before: dateTime("Tasks accepted before this time (RFC 3339)."),
};

export const cursorSchema = {
  type: "string",
  pattern: "^[A-Za-z0-9_-]{1,100}$",
  description: "`next_cursor` of the page before.",
};

/** Tasks of one bulk action. */
export const bulkMax = 1_000;

const bulkRequest = (does: string, status: object): object => ({
  type: "object",
  description: `Which tasks to ${does}.`,
  additionalProperties: false,
  required: ["filter"],
  properties: {
    filter: {
      type: "object",
      additionalProperties: false,
      properties: { ...filterProperties, status },
      description: `All conditions must hold; \`{}\` has none.`,
    },
    limit: { type: "integer", minimum: 1, maximum: bulkMax, default: bulkMax, description: "Tasks of this call." },
    cursor: cursorSchema,
  },
});
const statusOf = (states: readonly Status[], description: string): object => ({
  type: "string",
  enum: states,
  description,
});
export const bulkCancelSchema = bulkRequest(
  "cancel",
  statusOf(
    statuses.filter((status) => !isTerminal(status)),
    "Tasks in this state. Default: all that have not ended.",
  ),
);
export const bulkRetrySchema = bulkRequest("retry", {
  ...statusOf(statuses.filter(isTerminal), "Tasks that ended so."),
  default: "FAILURE",
});

/** `GET /v1/tasks`, once its query is an object. */
export const listQuerySchema = {
  type: "object",
  additionalProperties: false,
  properties: {
    ...filterProperties,
    limit: { type: "integer", minimum: 1, maximum: pageMax, description: "Tasks on the page." },
    cursor: cursorSchema,
  },
};

const count = (description: string): object => ({ type: "integer", minimum: 0, description });

export const findSchemas: Readonly<Record<string, object>> = {
  BulkCancel: bulkCancelSchema,
  BulkRetry: bulkRetrySchema,
  BulkResult: {
    type: "object",
    description: "What became of each task.",
    required: ["object", "accepted", "skipped", "failed", "data", "has_more", "next_cursor"],
    properties: {
      object: { type: "string", const: "bulk_result", description: "Always `bulk_result`." },
      accepted: count("Tasks that are cancelled or retried by this call."),
      skipped: count("Tasks with nothing to do: ended meanwhile, not ended, or retried in bulk before."),
      failed: count("Tasks that could not be retried; `code` says why."),
      data: {
        type: "array",
        description: "One entry a task, newest first.",
        items: {
          type: "object",
          required: ["task_id", "outcome"],
          properties: {
            task_id: { type: "string", description: "The task." },
            outcome: { type: "string", enum: ["accepted", "skipped", "failed"], description: "What became of it." },
            retried_as: { type: "string", description: "Id of the new task, also where it was made before." },
            code: { type: "string", description: "The error code of a failed one." },
          },
        },
      },
      has_more: { type: "boolean", description: "Whether to go on with `next_cursor`." },
      next_cursor: { type: ["string", "null"], description: "The next call's `cursor`; null where all is done." },
    },
  },
  TaskList: {
    type: "object",
    description: "A page of tasks, newest first.",
    required: ["object", "data", "has_more", "next_cursor"],
    properties: {
      object: { type: "string", const: "list", description: "Always `list`." },
      data: { type: "array", description: "The tasks.", items: { $ref: "#/components/schemas/Task" } },
      has_more: { type: "boolean", description: "Whether to go on with `next_cursor`, also after an empty page." },
      next_cursor: { type: ["string", "null"], description: "The next page's `cursor`; null on the last one." },
    },
  },
};
