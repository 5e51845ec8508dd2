// What a client may ask of its tasks, and how far a list has been read. Pure data, made from a query or a body by the
// HTTP layer and turned into SQL by listing.ts. A cursor is a place in the list and holds no right to anything.
import { isTaskId } from "../ids.ts";
import type { Priority, Status } from "./task.ts";

/** All that are given must hold. */
export interface TaskFilter {
  /** `OPEN` is any of PENDING, STARTED and RETRY. */
  readonly status?: Status | "OPEN";
  readonly model?: string;
  readonly priority?: Priority;
  /** Words, all of which stand in the input or in the error, in any case. */
  readonly q?: string;
  /** Fields and the whole of their values. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Milliseconds since the epoch, inclusive. */
  readonly createdAfterMs?: number;
  /** Milliseconds since the epoch, exclusive. */
  readonly createdBeforeMs?: number;
}

/** A task's place in a list: newest first, the id where two are of one millisecond. */
export interface Position {
  readonly createdMs: number;
  readonly taskId: string;
}

export const cursorOf = ({ createdMs, taskId }: Position): string =>
  Buffer.from(`${createdMs}.${taskId}`).toString("base64url");

/** Null for what no list has given. */
export function positionOf(cursor: string): Position | null {
  const [, digits = "", taskId = ""] = /^(\d{1,15})\.(\w{26})$/.exec(Buffer.from(cursor, "base64url").toString()) ?? [];
  return isTaskId(taskId) ? { createdMs: Number(digits), taskId } : null;
}
