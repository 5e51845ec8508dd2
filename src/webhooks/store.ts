// The rows of deliveries: written once when a task has ended, then moved by attempts until one is answered with success
// or none is left. A gateway that works on one holds a lease on it; everything here can be done by several gateways at
// once and again after a crash.
//
//   pending ──► delivered
//      │  ▲ by hand, from either
//      └──┴───► failed
import type { SQL } from "bun";
import { inserted, write } from "../db/dialect.ts";

export type DeliveryState = "pending" | "delivered" | "failed";

export interface NewDelivery {
  /** The webhook-id: the same for every attempt, and for whoever writes the row. */
  readonly id: string;
  readonly taskId: string;
  readonly keyId: string;
  readonly event: string;
  readonly url: string;
  readonly body: string;
}

/** A delivery that this process is to attempt now. */
export interface Claimed extends NewDelivery {
  readonly host: string;
  /** Attempts of this round so far. */
  readonly tries: number;
}

export interface Attempt {
  readonly atMs: number;
  readonly durationMs: number;
  readonly status: number | null;
  readonly error: string | null;
}

export interface Delivery {
  readonly id: string;
  readonly event: string;
  readonly url: string;
  readonly state: DeliveryState;
  readonly createdMs: number;
  /** Null when no attempt is to come. */
  readonly nextMs: number | null;
  /** The oldest first. */
  readonly attempts: readonly Attempt[];
}

/** Sequence up to which each stream has been taken in. */
export async function loadCursors(sql: SQL): Promise<Map<string, number>> {
  const rows: { stream: string; sequence: number }[] = await sql`SELECT stream, sequence FROM webhook_cursors`;
  return new Map(rows.map((row) => [row.stream, Number(row.sequence)]));
}

/**
 * Adds deliveries, due at once, and moves the cursors, in one transaction. Of rows that exist the body is renewed (the
 * end of an erased task is read again) and nothing else. A cursor
 * may move back, by another gateway that lags or after the broker lost its end: what is read again is here already.
 */
export async function takeIn(
  sql: SQL,
  deliveries: readonly NewDelivery[],
  cursors: ReadonlyMap<string, number>,
  nowMs: number,
): Promise<void> {
  const rows = deliveries.map((delivery) => ({
    delivery_id: delivery.id,
    task_id: delivery.taskId,
    key_id: delivery.keyId,
    event: delivery.event,
    url: delivery.url,
    host: hostOf(delivery.url),
    body: delivery.body,
    created_ms: nowMs,
    state: "pending",
    tries: 0,
    next_ms: nowMs,
    lease: "",
    lease_until_ms: 0,
  }));
  const places = [...cursors].map(([stream, sequence]) => ({ stream, sequence }));
  await write(sql, async (transaction) => {
    if (rows.length > 0) {
      await transaction`INSERT INTO deliveries ${inserted(transaction, "deliveries", rows)} ON CONFLICT (delivery_id)
        DO UPDATE SET body = excluded.body WHERE deliveries.body <> excluded.body`;
    }
    if (places.length > 0) {
      await transaction`
        INSERT INTO webhook_cursors ${transaction(places)}
        ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence`;
    }
  });
}

export interface DueDelivery {
  readonly id: string;
  readonly host: string;
  readonly keyId: string;
}

/** Due deliveries that nobody works on, the longest due first; none of these hosts and keys. */
export async function findDue(
  sql: SQL,
  nowMs: number,
  notHosts: readonly string[],
  notKeys: readonly string[],
  limit: number,
): Promise<DueDelivery[]> {
  const rows: { delivery_id: string; host: string; key_id: string }[] = await sql`
    SELECT delivery_id, host, key_id FROM deliveries
    WHERE state = 'pending' AND next_ms <= ${nowMs} AND lease_until_ms <= ${nowMs}
    ${notHosts.length > 0 ? sql`AND host NOT IN ${sql(notHosts)}` : sql``}
    ${notKeys.length > 0 ? sql`AND key_id NOT IN ${sql(notKeys)}` : sql``}
    ORDER BY next_ms LIMIT ${limit}`;
  return rows.map((row) => ({ id: row.delivery_id, host: row.host, keyId: row.key_id }));
}

/** Of these, the ones that are still due and free: from now on they are this lease's, until `untilMs`. */
export async function claim(
  sql: SQL,
  ids: readonly string[],
  lease: string,
  nowMs: number,
  untilMs: number,
): Promise<Claimed[]> {
  if (ids.length === 0) return [];
  const rows: DeliveryRow[] = await sql`
    UPDATE deliveries SET lease = ${lease}, lease_until_ms = ${untilMs}
    WHERE delivery_id IN ${sql(ids)} AND state = 'pending' AND next_ms <= ${nowMs} AND lease_until_ms <= ${nowMs}
    RETURNING delivery_id, task_id, key_id, event, url, host, body, tries`;
  return rows.map((row) => ({
    id: row.delivery_id,
    taskId: row.task_id,
    keyId: row.key_id,
    event: row.event,
    url: row.url,
    host: row.host,
    body: row.body,
    tries: Number(row.tries),
  }));
}

interface DeliveryRow {
  readonly delivery_id: string;
  readonly task_id: string;
  readonly key_id: string;
  readonly event: string;
  readonly url: string;
  readonly host: string;
  readonly body: string;
  readonly tries: number;
}

/** When the next attempt is due; null after the last one. */
export interface Settled {
  readonly state: DeliveryState;
  readonly nextMs: number | null;
}

/** Writes an attempt down and what follows from it, unless it no longer holds the lease. */
export async function settle(
  sql: SQL,
  id: string,
  lease: string,
  attempt: Attempt,
  { state, nextMs }: Settled,
): Promise<void> {
  await write(sql, async (transaction) => {
    const [row]: { tries: number }[] = await transaction`
      UPDATE deliveries SET state = ${state}, next_ms = ${nextMs}, tries = tries + 1, lease = '', lease_until_ms = 0
      WHERE delivery_id = ${id} AND lease = ${lease} RETURNING tries`;
    if (!row) return;
    await transaction`INSERT INTO delivery_attempts ${transaction([
      {
        delivery_id: id,
        at_ms: attempt.atMs,
        duration_ms: attempt.durationMs,
        status: attempt.status,
        error: attempt.error,
      },
    ])} ON CONFLICT (delivery_id, at_ms) DO NOTHING`;
  });
}

/** Gives back what was claimed and not attempted to its end. */
export async function release(sql: SQL, id: string, lease: string): Promise<void> {
  await sql`UPDATE deliveries SET lease = '', lease_until_ms = 0 WHERE delivery_id = ${id} AND lease = ${lease}`;
}

interface JoinedRow {
  readonly delivery_id: string;
  readonly event: string;
  readonly url: string;
  readonly state: DeliveryState;
  readonly created_ms: number;
  readonly next_ms: number | null;
  /** Null for a delivery without an attempt. */
  readonly at_ms: number | null;
  readonly duration_ms: number;
  readonly status: number | null;
  readonly error: string | null;
}

/** Attempts of a task that are shown, the newest. A task has one delivery, its id may have served for others before. */
const ATTEMPTS_MAX = 500;

/** The deliveries of a task with their attempts, the newest first; of other keys none. One query: one moment. */
export async function deliveriesOf(sql: SQL, taskId: string, keyId: string): Promise<Delivery[]> {
  const rows: JoinedRow[] = await sql`
    SELECT d.delivery_id, d.event, d.url, d.state, d.created_ms, d.next_ms, a.at_ms, a.duration_ms, a.status, a.error
    FROM deliveries d LEFT JOIN delivery_attempts a ON a.delivery_id = d.delivery_id
    WHERE d.task_id = ${taskId} AND d.key_id = ${keyId}
    ORDER BY d.created_ms DESC, d.delivery_id, a.at_ms DESC LIMIT ${ATTEMPTS_MAX}`;
  return [...Map.groupBy(rows, (row) => row.delivery_id).values()].flatMap((ofOne) => {
    const [first] = ofOne;
    if (!first) return [];
    const { delivery_id: id, event, url, state } = first;
    const nextMs = first.next_ms === null ? null : Number(first.next_ms);
    const attempts = ofOne.flatMap((row) => (row.at_ms === null ? [] : [attemptOf(row, row.at_ms)]));
    return [{ id, event, url, state, createdMs: Number(first.created_ms), nextMs, attempts: attempts.reverse() }];
  });
}

const attemptOf = (row: JoinedRow, atMs: number): Attempt => ({
  atMs: Number(atMs),
  durationMs: Number(row.duration_ms),
  status: row.status === null ? null : Number(row.status),
  error: row.error,
});

/**
 * Makes a delivery due now, with a whole round of attempts before it. An attempt under way loses its lease: what comes
 * of it is not written down.
 */
export async function makeDue(sql: SQL, id: string, nowMs: number): Promise<void> {
  await sql`
    UPDATE deliveries SET state = 'pending', next_ms = ${nowMs}, tries = 0, lease = '', lease_until_ms = 0
    WHERE delivery_id = ${id}`;
}

/** What is sent of a task from now on. An attempt under way has read what it sends. */
export async function replaceBodies(sql: SQL, taskId: string, keyId: string, body: string): Promise<void> {
  await sql`UPDATE deliveries SET body = ${body} WHERE task_id = ${taskId} AND key_id = ${keyId}`;
}

/** Deletes deliveries of before `beforeMs` that nothing is to come of any more. */
export async function deleteOld(sql: SQL, beforeMs: number): Promise<void> {
  await write(sql, async (transaction) => {
    await transaction`
      DELETE FROM delivery_attempts WHERE delivery_id IN (
        SELECT delivery_id FROM deliveries WHERE created_ms < ${beforeMs} AND state <> 'pending')`;
    await transaction`DELETE FROM deliveries WHERE created_ms < ${beforeMs} AND state <> 'pending'`;
  });
}

/** Host and port: who shares a lane. The URL has been checked. */
const hostOf = (url: string): string => URL.parse(url)?.host ?? "";
