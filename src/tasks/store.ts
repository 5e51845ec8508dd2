// The queries on tasks in SQL. Rows only move forward: what has ended stays ended, whatever is applied again. One that
// has left the logs may be followed by another task of the same id, which has another time of creation.
import type { SQL } from "bun";
import { among, inserted, write, writeForGood } from "../db/dialect.ts";
import type { Priority, Status } from "./task.ts";

/** What the logs say of one task; fields of a log that has not spoken yet are null. */
export interface TaskRow {
  readonly id: string;
  readonly key: string;
  readonly model: string;
  readonly priority: Priority;
  readonly createdMs: number;
  /** JSON text. */
  readonly metadata: string;
  /** While its job waits for its time: when that is. */
  readonly dueMs: number | null;
  /** From then on it is not started; null where it has ended, is being cancelled, or is known to have begun. */
  readonly startByMs: number | null;
  readonly status: Status;
  readonly attempt: number;
  readonly cancelSequence: number | null;
  readonly cancelRequestedMs: number | null;
  readonly finishedMs: number | null;
  readonly eventId: string | null;
  readonly data: string | null;
  /** Sequence of the end in its log of results. */
  readonly resultSequence: number | null;
  /** Of the input as JSON; null where the job has not been read, or has ended. */
  readonly inputBytes: number | null;
  /** What a search finds, in lower case; null where the job has not been read. */
  readonly inputText: string | null;
  readonly errorText: string | null;
  readonly retryOf: string | null;
}

/**
 * Writes rows, each of another task, and cursors in one transaction: after a crash the streams are read on from just
 * here. At most 1,500 rows: SQLite takes 32,766 parameters in a statement.
 */
export async function saveBatch(
  sql: SQL,
  rows: readonly TaskRow[],
  cursors: Readonly<Record<string, number>>,
): Promise<void> {
  await write(sql, async (transaction) => {
    if (rows.length > 0) {
      const columns = rows.map(columnsOf);
      const { count } = await transaction`
        INSERT INTO tasks ${inserted(transaction, "tasks", columns)}
        ON CONFLICT (task_id) DO UPDATE SET
          key_id = excluded.key_id, model = excluded.model, priority = excluded.priority,
          created_ms = excluded.created_ms, metadata = excluded.metadata, status = excluded.status,
          due_ms = CASE WHEN tasks.trimmed = 0 AND tasks.cancel_sequence IS NOT NULL THEN NULL
            ELSE excluded.due_ms END,
          start_by_ms = CASE WHEN tasks.trimmed = 0 AND tasks.cancel_sequence IS NOT NULL THEN NULL
            ELSE excluded.start_by_ms END,
          attempt = excluded.attempt, finished_ms = excluded.finished_ms, event_id = excluded.event_id,
          data = excluded.data, result_sequence = excluded.result_sequence, trimmed = 0,
          cancel_sequence = CASE WHEN tasks.trimmed = 1 THEN excluded.cancel_sequence
            ELSE coalesce(excluded.cancel_sequence, tasks.cancel_sequence) END,
          cancel_requested_ms = CASE WHEN tasks.trimmed = 1 THEN excluded.cancel_requested_ms
            ELSE coalesce(excluded.cancel_requested_ms, tasks.cancel_requested_ms) END,
          input_text = CASE WHEN tasks.trimmed = 1 THEN excluded.input_text
            ELSE coalesce(excluded.input_text, tasks.input_text) END,
          error_text = excluded.error_text, retry_of = excluded.retry_of,
          input_bytes = CASE WHEN excluded.finished_ms IS NULL
            THEN coalesce(excluded.input_bytes, tasks.input_bytes) END
        WHERE (tasks.finished_ms IS NULL AND tasks.created_ms <= excluded.created_ms)
          OR (tasks.trimmed = 1 AND tasks.created_ms < excluded.created_ms)`;
      // A row that had ended was left as it is: its end may have been read before its job, which knows the input.
      if (count < rows.length) {
        await transaction`
          INSERT INTO tasks ${inserted(transaction, "tasks", columns)}
          ON CONFLICT (task_id) DO UPDATE SET input_text = excluded.input_text
          WHERE tasks.input_text IS NULL AND tasks.created_ms = excluded.created_ms`;
      }
    }
    const places = Object.entries(cursors).map(([stream, sequence]) => ({ stream, sequence }));
    if (places.length === 0) return;
    await transaction`
      INSERT INTO cursors ${transaction(places)}
      ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence WHERE excluded.sequence > cursors.sequence`;
  });
}

const columnsOf = (row: TaskRow): Record<string, string | number | null> => ({
  task_id: row.id,
  key_id: row.key,
  model: row.model,
  priority: row.priority,
  created_ms: row.createdMs,
  metadata: row.metadata,
  due_ms: row.dueMs,
  start_by_ms: row.startByMs,
  status: row.status,
  attempt: row.attempt,
  cancel_sequence: row.cancelSequence,
  cancel_requested_ms: row.cancelRequestedMs,
  finished_ms: row.finishedMs,
  event_id: row.eventId,
  data: row.data,
  result_sequence: row.resultSequence,
  input_bytes: row.inputBytes,
  input_text: row.inputText,
  error_text: row.errorText,
  retry_of: row.retryOf,
});

/** Sequence up to which each stream has been read. */
export async function loadCursors(sql: SQL): Promise<Map<string, number>> {
  const rows: { stream: string; sequence: unknown }[] = await sql`SELECT stream, sequence FROM cursors`;
  return new Map(rows.map((row) => [row.stream, Number(row.sequence)]));
}

export interface EndedRow {
  readonly keyId: string;
  readonly status: Status;
  readonly eventId: string;
  readonly data: string;
  readonly createdMs: number;
  readonly finishedMs: number;
  /** The logs no longer hold the task; its client_request_id is free again. */
  readonly trimmed: boolean;
}

/** The task where it has ended, else null. */
export async function findEnded(sql: SQL, taskId: string): Promise<EndedRow | null> {
  const [row] = await sql`
    SELECT key_id, status, event_id, data, created_ms, finished_ms, trimmed FROM tasks
    WHERE task_id = ${taskId} AND finished_ms IS NOT NULL`;
  if (!row) return null;
  const { key_id: keyId, status, event_id: eventId, data } = row;
  const times = { createdMs: Number(row.created_ms), finishedMs: Number(row.finished_ms) };
  return { keyId, status, eventId, data, ...times, trimmed: Number(row.trimmed) === 1 };
}

/**
 * Of these tasks, those that have ended and whose end stands below `firstSequence` of its log: it is no longer there.
 * With the times of their ends, in milliseconds since the epoch.
 */
export async function endedBelow(
  sql: SQL,
  taskIds: readonly string[],
  firstSequence: number,
): Promise<Map<string, number>> {
  if (taskIds.length === 0) return new Map();
  const rows: { task_id: string; finished_ms: unknown }[] = await sql`
    SELECT task_id, finished_ms FROM tasks
    WHERE finished_ms IS NOT NULL AND coalesce(result_sequence, 0) < ${firstSequence}
      AND task_id ${among(sql, taskIds)}`;
  return new Map(rows.map((row) => [row.task_id, Number(row.finished_ms)]));
}

export async function markTrimmed(sql: SQL, taskIds: readonly string[]): Promise<void> {
  if (taskIds.length === 0) return;
  // Before the jobs go: a mark that was lost would keep the next task of the id out of the read model.
  await writeForGood(
    sql,
    (transaction) => transaction`UPDATE tasks SET trimmed = 1 WHERE task_id ${among(transaction, taskIds)}`,
  );
}

/** Rows of tasks that ended before `beforeMs` and are no longer in the logs. */
export async function deleteHistory(sql: SQL, beforeMs: number): Promise<void> {
  await sql`DELETE FROM tasks WHERE trimmed = 1 AND finished_ms < ${beforeMs}`;
}

/** What a row says of a task whose data were erased. `resultSequence` null: as before. */
export async function eraseRow(
  sql: SQL,
  taskId: string,
  erased: { readonly data: string; readonly finishedMs: number; readonly resultSequence: number | null },
): Promise<void> {
  await writeForGood(
    sql,
    (transaction) => transaction`
      UPDATE tasks SET data = ${erased.data}, input_text = '', error_text = NULL, finished_ms = ${erased.finishedMs},
        result_sequence = coalesce(${erased.resultSequence}, result_sequence)
      WHERE task_id = ${taskId} AND finished_ms IS NOT NULL`,
  );
}

/** What a task's row says of its objects. */
export interface ObjectOwner {
  /** The public task object as JSON text; null while the task has not ended. */
  readonly data: string | null;
  readonly trimmed: boolean;
}

/** The rows of these tasks, at most 1,000, by id. */
export async function objectOwners(sql: SQL, taskIds: readonly string[]): Promise<Map<string, ObjectOwner>> {
  if (taskIds.length === 0) return new Map();
  const rows: { task_id: string; data: string | null; trimmed: number }[] = await sql`
    SELECT task_id, data, trimmed FROM tasks WHERE task_id ${among(sql, taskIds)}`;
  return new Map(rows.map((row) => [row.task_id, { data: row.data, trimmed: Number(row.trimmed) === 1 }]));
}

export interface OpenCancel {
  readonly taskId: string;
  readonly keyId: string;
}

/** Tasks with a cancel marker and no end. */
export async function openCancels(sql: SQL): Promise<OpenCancel[]> {
  const rows: { task_id: string; key_id: string }[] = await sql`
    SELECT task_id, key_id FROM tasks WHERE cancel_sequence IS NOT NULL AND finished_ms IS NULL`;
  return rows.map((row) => ({ taskId: row.task_id, keyId: row.key_id }));
}

/** Tasks whose job waits for a time up to `nowMs`, earliest first. */
export async function dueTasks(sql: SQL, nowMs: number, countMax: number): Promise<string[]> {
  const rows: { task_id: string }[] = await sql`
    SELECT task_id FROM tasks WHERE due_ms <= ${nowMs} AND finished_ms IS NULL ORDER BY due_ms LIMIT ${countMax}`;
  return rows.map((row) => row.task_id);
}

/** When the next of them is due, milliseconds since the epoch; null for none. */
export async function nextDueMs(sql: SQL): Promise<number | null> {
  const [row] =
    await sql`SELECT due_ms FROM tasks WHERE due_ms IS NOT NULL AND finished_ms IS NULL ORDER BY due_ms LIMIT 1`;
  return row ? Number(row.due_ms) : null;
}

/** Their jobs wait no longer. */
export async function markMoved(sql: SQL, taskIds: readonly string[]): Promise<void> {
  await sql`UPDATE tasks SET due_ms = NULL WHERE task_id ${among(sql, taskIds)}`;
}

export interface OverdueTask {
  readonly taskId: string;
  readonly keyId: string;
  readonly startByMs: number;
}

/**
 * Tasks that have not ended, are not being cancelled, and should have been started before `beforeMs`: so many after
 * `after`, earliest first.
 */
export async function overdueTasks(
  sql: SQL,
  beforeMs: number,
  after: OverdueTask | null,
  countMax: number,
): Promise<OverdueTask[]> {
  const fromMs = after?.startByMs ?? 0;
  const rows: { task_id: string; key_id: string; start_by_ms: number }[] = await sql`
    SELECT task_id, key_id, start_by_ms FROM tasks
    WHERE finished_ms IS NULL AND start_by_ms < ${beforeMs} AND start_by_ms >= ${fromMs}
      AND (start_by_ms > ${fromMs} OR task_id > ${after?.taskId ?? ""})
    ORDER BY start_by_ms, task_id LIMIT ${countMax}`;
  return rows.map((row) => ({ taskId: row.task_id, keyId: row.key_id, startByMs: Number(row.start_by_ms) }));
}

/** They were started, or will never be: their latest start is no longer of interest. */
export async function markBegun(sql: SQL, taskIds: readonly string[]): Promise<void> {
  await sql`UPDATE tasks SET start_by_ms = NULL WHERE task_id ${among(sql, taskIds)}`;
}

/** Tasks of one key in one queue. */
export interface KeyQueue {
  readonly keyId: string;
  readonly level: Priority;
  readonly model: string;
}

/** How many of them have not ended and do not wait for their time; counts no further than `countMax`. */
export async function openInQueue(sql: SQL, { keyId, level, model }: KeyQueue, countMax: number): Promise<number> {
  const [row] = await sql`
    SELECT count(*) AS count FROM (
      SELECT 1 FROM tasks
      WHERE key_id = ${keyId} AND model = ${model} AND priority = ${level}
        AND finished_ms IS NULL AND due_ms IS NULL
      LIMIT ${countMax}
    ) AS counted`;
  return Number(row?.count ?? 0);
}

/** What a key has that has not ended. */
export interface OpenOfKey {
  readonly tasks: number;
  /** Of their inputs as JSON. */
  readonly bytes: number;
}

/** Reads no more than `countMax` entries of an index. */
export async function openOfKey(sql: SQL, keyId: string, countMax: number): Promise<OpenOfKey> {
  const [row] = await sql`
    SELECT count(*) AS tasks, coalesce(sum(input_bytes), 0) AS bytes FROM (
      SELECT input_bytes FROM tasks WHERE key_id = ${keyId} AND finished_ms IS NULL LIMIT ${countMax}
    ) AS counted`;
  return { tasks: Number(row?.tasks ?? 0), bytes: Number(row?.bytes ?? 0) };
}
