// The queries on schedules, in the database of what is kept: they stand nowhere else.
import type { SQL } from "bun";
import { write } from "../db/dialect.ts";

export interface ScheduleRow {
  readonly id: string;
  readonly keyId: string;
  readonly name: string | null;
  readonly cron: string;
  readonly timezone: string;
  /** JSON text of the task's request. */
  readonly task: string;
  /** Milliseconds since the epoch, like the other times. */
  readonly createdMs: number;
  /** The occurrence that fires next; in the past where nobody has fired it yet. Null: none will come. */
  readonly nextMs: number | null;
  /** The last occurrence that fired, and its task. */
  readonly lastMs: number | null;
  readonly lastTaskId: string | null;
  /** The code with which the last occurrence was refused, where it was. */
  readonly lastError: string | null;
}

type Columns = Record<string, string | number | null>;

/** False where the key has `countMax` already. */
export async function insertSchedule(sql: SQL, row: ScheduleRow, countMax: number): Promise<boolean> {
  return await write(sql, async (transaction) => {
    const [{ schedules }] = await transaction`
      SELECT count(*) AS schedules FROM schedules WHERE key_id = ${row.keyId}`;
    if (Number(schedules) >= countMax) return false;
    await transaction`INSERT INTO schedules ${transaction({
      schedule_id: row.id,
      key_id: row.keyId,
      name: row.name,
      cron: row.cron,
      timezone: row.timezone,
      task: row.task,
      created_ms: row.createdMs,
      next_ms: row.nextMs,
    })}`;
    return true;
  });
}

export async function findSchedule(sql: SQL, keyId: string, id: string): Promise<ScheduleRow | null> {
  const [row] = await sql`SELECT * FROM schedules WHERE schedule_id = ${id} AND key_id = ${keyId}`;
  return row ? fromColumns(row) : null;
}

/** Newest first: ids begin with the time. `after`: the last id of the page before. */
export async function listSchedules(
  sql: SQL,
  keyId: string,
  after: string | null,
  countMax: number,
): Promise<ScheduleRow[]> {
  const rows: Columns[] = await sql`
    SELECT * FROM schedules WHERE key_id = ${keyId} ${after === null ? sql`` : sql`AND schedule_id < ${after}`}
    ORDER BY schedule_id DESC LIMIT ${countMax}`;
  return rows.map(fromColumns);
}

/** Whether there was one. */
export async function deleteSchedule(sql: SQL, keyId: string, id: string): Promise<boolean> {
  const rows: unknown[] = await sql`
    DELETE FROM schedules WHERE schedule_id = ${id} AND key_id = ${keyId} RETURNING schedule_id`;
  return rows.length > 0;
}

/** Those with an occurrence up to `nowMs`, earliest first: so many after `after`. */
export async function dueSchedules(
  sql: SQL,
  nowMs: number,
  after: ScheduleRow | null,
  countMax: number,
): Promise<ScheduleRow[]> {
  const fromMs = after?.nextMs ?? 0;
  const rows: Columns[] = await sql`
    SELECT * FROM schedules
    WHERE next_ms <= ${nowMs} AND next_ms >= ${fromMs} AND (next_ms > ${fromMs} OR schedule_id > ${after?.id ?? ""})
    ORDER BY next_ms, schedule_id LIMIT ${countMax}`;
  return rows.map(fromColumns);
}

/** Whether this occurrence is still to be fired: the schedule stands, and nobody has gone on. */
export async function stillDue(sql: SQL, { id, nextMs }: ScheduleRow): Promise<boolean> {
  const [row] = await sql`SELECT 1 AS due FROM schedules WHERE schedule_id = ${id} AND next_ms = ${nextMs}`;
  return row !== undefined;
}

export async function nextScheduleMs(sql: SQL): Promise<number | null> {
  const [row] = await sql`SELECT next_ms FROM schedules WHERE next_ms IS NOT NULL ORDER BY next_ms LIMIT 1`;
  return row ? Number(row.next_ms) : null;
}

export interface Fired {
  readonly schedule: ScheduleRow;
  readonly nextMs: number | null;
  /** Null where the occurrence was passed over. */
  readonly taskId: string | null;
  readonly error: string | null;
}

/** Goes on to the next occurrences, in one transaction: one fsync. Who comes second changes nothing. */
export async function advanceSchedules(sql: SQL, fired: readonly Fired[]): Promise<void> {
  await write(sql, async (transaction) => {
    for (const { schedule, nextMs, taskId, error } of fired) {
      await transaction`
        UPDATE schedules SET next_ms = ${nextMs}, last_error = ${error},
          last_ms = ${taskId === null ? schedule.lastMs : schedule.nextMs},
          last_task_id = ${taskId ?? schedule.lastTaskId}
        WHERE schedule_id = ${schedule.id} AND next_ms = ${schedule.nextMs}`;
    }
  });
}

const numberOrNull = (value: unknown): number | null => (value === null ? null : Number(value));

const fromColumns = (row: Columns): ScheduleRow => ({
  id: String(row.schedule_id),
  keyId: String(row.key_id),
  name: row.name as string | null,
  cron: String(row.cron),
  timezone: String(row.timezone),
  task: String(row.task),
  createdMs: Number(row.created_ms),
  nextMs: numberOrNull(row.next_ms),
  lastMs: numberOrNull(row.last_ms),
  lastTaskId: row.last_task_id as string | null,
  lastError: row.last_error as string | null,
});
