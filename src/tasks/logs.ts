// Follows every partition of the logs from where a reader stands, and hands each record on, parsed where it is wanted.
// What cannot be read is left out and said, so that one bad record does not stop the others.
import type { Bus } from "../bus/connection.ts";
import { type FollowedRecord, type Follower, follow } from "../bus/follow.ts";
import { parseResult, streams, subjects } from "../bus/subjects.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { type JobRecord, parseJobRecord, parseResultRecord, type ResultRecord } from "./records.ts";

/** The end of a task, or its cancel marker. */
export interface HeardResult {
  readonly record: ResultRecord;
  readonly partition: number;
  readonly model: string;
  readonly sequence: number;
}

/**
 * `read` parses the job: most are not wanted, because their task has ended meanwhile. It throws for an unknown form.
 * `waits`: the job stands at the level `later` and is in no queue yet.
 */
export type OnJob = (taskId: string, read: () => JobRecord, stream: string, sequence: number, waits: boolean) => void;

export interface LogsOptions {
  readonly bus: Bus;
  readonly partitions: number;
  /** Sequence read so far, by stream. */
  readonly cursors: ReadonlyMap<string, number>;
  readonly log: Log;
  /** Null leaves the log of jobs out. */
  readonly onJob: OnJob | null;
  readonly onResult: (heard: HeardResult, stream: string) => void;
  /** Null, or when there is room for more records. */
  readonly room?: () => Promise<void> | null;
}

export async function followLogs(options: LogsOptions): Promise<Follower> {
  const { bus, partitions, cursors, log, onJob, onResult, room } = options;
  const followers: Follower[] = [];
  const start = async (stream: string, heard: (record: FollowedRecord) => void): Promise<void> => {
    const guarded = (record: FollowedRecord): void => {
      try {
        heard(record);
      } catch (error) {
        log.error({ stream, sequence: record.sequence, error: messageOf(error) }, "record of the log left out");
      }
    };
    const fromSequence = (cursors.get(stream) ?? 0) + 1;
    followers.push(await follow(bus, { stream, fromSequence, log, onRecord: guarded, room }));
  };
  const heardResult = (stream: string, record: FollowedRecord): void => {
    const at = parseResult(record.subject);
    if (!at) return;
    const result = parseResultRecord(record.text());
    onResult({ record: result, partition: at.partition, model: at.model, sequence: record.sequence }, stream);
  };
  const starts: Promise<void>[] = [];
  for (let p = 0; p < partitions; p++) {
    const [jobs, results] = [streams.jobs(p), streams.results(p)];
    starts.push(start(results, (record) => heardResult(results, record)));
    if (!onJob) continue;
    const later = subjects.laterPrefix(p);
    const heardJob = (record: FollowedRecord): void => {
      const taskId = record.subject.slice(record.subject.lastIndexOf(".") + 1);
      const waits = record.subject.startsWith(later);
      onJob(taskId, () => parseJobRecord(record.text()), jobs, record.sequence, waits);
    };
    starts.push(start(jobs, heardJob));
  }
  await Promise.all(starts);
  return {
    caughtUp: Promise.all(followers.map((follower) => follower.caughtUp)).then(() => {}),
    stop: () => {
      for (const follower of followers) follower.stop();
    },
  };
}
