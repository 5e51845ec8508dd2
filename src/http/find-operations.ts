// What OpenAPI says about finding tasks and acting on what was found. Data only, like operations.ts.
import { cursorSchema, filterProperties, listQuerySchema, pageDefault, pageMax } from "./find-schemas.ts";
import type { Operation, Parameter } from "./route.ts";

const exampleTask = {
  task_id: "01jd5w3v9m7k2q4x8n6t0r5y1z",
  status: "FAILURE",
  model: "superres-x4",
  priority: "high",
  attempt: 3,
  actor: { id: "gpu-0", gpu: "0" },
  timing: null,
  error: { code: "fetch_status", message: "the URL answered 404", stage: "prepare", retryable: false },
  created_at: "2026-11-21T10:00:00.000Z",
  started_at: "2026-11-21T10:00:00.001Z",
  finished_at: "2026-11-21T10:00:01.031Z",
  metadata: { order: "4711" },
};
const exampleCursor = "MTc5NTI1NTIwMDAwMC4wMWpkNXczdjltN2sycTR4OG42dDByNXkxeg";

const query = (name: string, schema: { readonly description?: string }, example?: unknown): Parameter => ({
  name,
  in: "query",
  description: schema.description ?? "",
  schema,
  ...(example === undefined ? {} : { example }),
});

const { metadata: _metadata, q, created_after, created_before, ...plain } = filterProperties;

const listTasks: Operation = {
  id: "listTasks",
  tag: "Tasks",
  summary: "List and search tasks",
  description:
    "The key's own tasks, newest first; all conditions must hold. Dead letters are the tasks of `status=FAILURE`. The " +
    "list may lag by a second: a task appears about a second after it was accepted, or at once when it has ended. " +
    "Pages do not shift while new tasks arrive. A search (model, priority, q, metadata) looks at 50,000 tasks a page " +
    "and a page of one open state at 500, so a page may hold fewer than `limit` while `has_more` is true: go on with " +
    "`next_cursor`. Together with `status` a search is quick, unless that is SUCCESS. A name that is not listed here, " +
    "or is given twice, is refused.",
  parameters: [
    ...Object.entries(plain).map(([name, schema]) => query(name, schema)),
    query("q", q, "gardens night"),
    {
      name: "metadata.NAME",
      in: "query",
      description: "Tasks whose metadata field NAME has just this value. May be given for up to 16 names.",
      schema: { type: "string", maxLength: 512 },
      example: "4711",
    },
    query("created_after", created_after as { description: string }, "2026-11-21T10:00:00Z"),
    query("created_before", created_before as { description: string }, "2026-11-22T10:00:00Z"),
    query("limit", { ...listQuerySchema.properties.limit, default: pageDefault } as { description: string }),
    query("cursor", cursorSchema, exampleCursor),
  ],
  answers: {
    "200": {
      description: `A page of up to ${pageMax} tasks.`,
      content: {
        "application/json": {
          schema: { $ref: "#/components/schemas/TaskList" },
          example: { object: "list", data: [exampleTask], has_more: true, next_cursor: exampleCursor },
        },
      },
    },
  },
  errors: ["invalid_request", "broker_unavailable", "not_ready"],
};

export const findOperations = { listTasks };
