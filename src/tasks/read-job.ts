// Finds the job of one task in its log, at whatever level and lane it stands, through the leader. Called wherever the
// request of a task is wanted again; its end is read by commit.ts.
import type { Bus } from "../bus/connection.ts";
import { type LogRecord, readLast } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import { partitionOf } from "../ids.ts";

/** A JobRecord as text; null where the log holds none, or none any more. Throws `broker_unavailable`. */
export function readJob(bus: Bus, partitions: number, taskId: string, timeoutMs: number): Promise<LogRecord | null> {
  const partition = partitionOf(taskId, partitions);
  return readLast(bus, streams.jobs(partition), subjects.anyJob(partition, taskId), timeoutMs);
}
