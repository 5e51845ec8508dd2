// The queries of lists and searches on the read model. Called by find.ts. Each reads a bounded number of rows along the
// index of a key's tasks by age, so that none holds up the event loop on which SQLite answers.
import type { SQL } from "bun";
import { contains } from "../db/dialect.ts";
import type { Position, TaskFilter } from "./filter.ts";
import { searchWords } from "./search-text.ts";
import { isTerminal, type Status } from "./task.ts";
import type { Owner } from "./tasks.ts";

export interface ListedRow extends Position {
  readonly status: Status;
  /** The public task object, where the task has ended. */
  readonly data: string | null;
}

export interface Window {
  readonly rows: readonly ListedRow[];
  /** The last place that was looked at; null where nothing lies beyond. */
  readonly reached: Position | null;
}

/** Whether rows have to be looked at one by one: the index knows the key, the status and the age. */
export const isSearch = ({ model, priority, q, metadata }: TaskFilter): boolean =>
  model !== undefined || priority !== undefined || q !== undefined || Object.keys(metadata ?? {}).length > 0;

/**
 * The next rows after `after` that match, newest first, at most `limit`. A search looks at `windowRows` rows and may
 * find none although more follow.
 */
export async function readWindow(
  sql: SQL,
  owner: Owner,
  filter: TaskFilter,
  after: Position | null,
  limit: number,
  windowRows: number,
): Promise<Window> {
  const range = rangeOf(sql, owner, filter, after);
  const end = isSearch(filter) ? await windowEnd(sql, range, windowRows) : null;
  const within = end ? sql`AND (created_ms, task_id) >= (${end.createdMs}, ${end.taskId})` : sql``;
  const found: Record<string, unknown>[] = await sql`
    SELECT task_id, created_ms, status, data FROM tasks
    WHERE ${range} ${within} ${matching(sql, filter)}
    ORDER BY created_ms DESC, task_id DESC LIMIT ${limit}`;
  const rows = found.map(listedRow);
  const full = found.length === limit ? (rows.at(-1) ?? null) : null;
  return { rows, reached: full ?? end };
}

/** Where a window of the range ends; null where the range ends before. Reads the index alone. */
async function windowEnd(sql: SQL, range: SQL.Query<unknown>, windowRows: number): Promise<Position | null> {
  const [row] = await sql`
    SELECT created_ms, task_id FROM tasks WHERE ${range}
    ORDER BY created_ms DESC, task_id DESC LIMIT 1 OFFSET ${windowRows - 1}`;
  return row ? { createdMs: Number(row.created_ms), taskId: row.task_id } : null;
}

const listedRow = (row: Record<string, unknown>): ListedRow => ({
  taskId: String(row.task_id),
  createdMs: Number(row.created_ms),
  status: row.status as Status,
  data: row.data === null ? null : String(row.data),
});

/** What an index answers. Rows know the starts and retries of open tasks by no name: they all say PENDING. */
function rangeOf(sql: SQL, owner: Owner, filter: TaskFilter, after: Position | null): SQL.Query<unknown> {
  const { status, createdAfterMs, createdBeforeMs } = filter;
  const stored = status === undefined || status === "OPEN" || !isTerminal(status) ? "PENDING" : status;
  return joined(sql, [
    sql`key_id = ${owner.keyId}`,
    status !== undefined && sql`status = ${stored}`,
    // The index leaves successes out, and is only used where a query says so too.
    status !== undefined && stored !== "SUCCESS" && sql`status <> 'SUCCESS'`,
    createdAfterMs !== undefined && sql`created_ms >= ${createdAfterMs}`,
    createdBeforeMs !== undefined && sql`created_ms < ${createdBeforeMs}`,
    after && sql`(created_ms, task_id) < (${after.createdMs}, ${after.taskId})`,
  ]);
}

/** What only the rows answer. */
function matching(sql: SQL, { model, priority, q, metadata = {} }: TaskFilter): SQL.Query<unknown> {
  const conditions = [
    model !== undefined && sql`model = ${model}`,
    priority !== undefined && sql`priority = ${priority}`,
    ...Object.entries(metadata).map((field) => contains(sql, "metadata", memberText(field))),
    ...searchWords(q ?? "").map(
      (word) => sql`(${contains(sql, "input_text", word)} OR ${contains(sql, "error_text", word)})`,
    ),
  ];
  return conditions.some(Boolean) ? sql`AND ${joined(sql, conditions)}` : sql``;
}

const joined = (sql: SQL, conditions: readonly (SQL.Query<unknown> | false | null)[]): SQL.Query<unknown> =>
  conditions.filter((condition) => !!condition).reduce((all, condition) => sql`${all} AND ${condition}`);

/** A field of metadata as its JSON text says it: quotes within strings are escaped, so it stands nowhere else. */
const memberText = ([name, value]: [string, string]): string => `${JSON.stringify(name)}:${JSON.stringify(value)}`;
