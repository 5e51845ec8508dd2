// What a gateway hears of the logs as they grow: it follows every partition of both, keeps the newest ends in memory,
// wakes who waits for one, and hands everything on to the projection. A record heard here is in the log; one not heard
// yet may be in it all the same, so "not here" is never an answer.
import type { Bus } from "../bus/connection.ts";
import { type FollowedRecord, type Follower, follow } from "../bus/follow.ts";
import { parseResult, streams } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { type JobRecord, parseJobRecord, parseResultRecord, type ResultRecord, statusOf } from "./records.ts";
import type { TerminalStatus } from "./task.ts";

/** The end of a task, or its cancel marker. */
export interface HeardResult {
  readonly record: ResultRecord;
  readonly partition: number;
  readonly model: string;
  readonly sequence: number;
}

export interface EndedTask {
  readonly keyId: string;
  readonly status: TerminalStatus;
  readonly eventId: string;
  readonly dataJson: string;
  /** Milliseconds since the epoch. */
  readonly endedAtMs: number;
}

export interface FeedOptions {
  readonly bus: Bus;
  readonly partitions: number;
  /** Sequence read so far, by stream. */
  readonly cursors: ReadonlyMap<string, number>;
  readonly log: Log;
  readonly clock: Clock;
  /** After this time from its end the same id may belong to another task. */
  readonly taskTtlMs: number;
  /** `read` parses the job: most are not wanted, because their task has ended meanwhile. Throws for an unknown form. */
  readonly onJob: (taskId: string, read: () => JobRecord, stream: string, sequence: number) => void;
  readonly onResult: (heard: HeardResult, stream: string) => void;
}

export interface Feed {
  /** The end of a task, where it was heard lately. */
  recent(taskId: string): EndedTask | undefined;
  /** Calls `wake` once when the task's end is heard. The returned function takes it back. */
  onEnd(taskId: string, wake: (ended: EndedTask) => void): () => void;
  /** Resolves when all that was in the logs at the start has been heard. */
  readonly caughtUp: Promise<void>;
  stop(): void;
}

/** Ends kept in memory: enough for the clients that ask right after an end, few enough to cost some megabytes. */
const RECENT_MAX = 8_000;
const RECENT_BYTES_MAX = 8 * 1024 * 1024;

export async function openFeed(options: FeedOptions): Promise<Feed> {
  const { bus, partitions, cursors, log, clock, taskTtlMs } = options;
  const recent = new Map<string, EndedTask>();
  let recentBytes = 0;
  const waiting = new Map<string, Set<(ended: EndedTask) => void>>();

  const remember = (taskId: string, ended: EndedTask): void => {
    recentBytes += ended.dataJson.length - (recent.get(taskId)?.dataJson.length ?? 0);
    recent.delete(taskId);
    recent.set(taskId, ended);
    while (recent.size > RECENT_MAX || recentBytes > RECENT_BYTES_MAX) {
      const [oldest = taskId] = recent.keys();
      recentBytes -= recent.get(oldest)?.dataJson.length ?? 0;
      recent.delete(oldest);
    }
  };
  const heardResult = (stream: string, record: FollowedRecord): void => {
    const at = parseResult(record.subject);
    if (!at) return;
    const result = parseResultRecord(record.text());
    options.onResult({ record: result, partition: at.partition, model: at.model, sequence: record.sequence }, stream);
    const status = statusOf(result.token);
    if (!status) return;
    const ended: EndedTask = {
      keyId: result.keyId,
      status,
      eventId: result.eventId,
      dataJson: result.dataJson,
      endedAtMs: result.timeMs,
    };
    remember(at.taskId, ended);
    const wakes = waiting.get(at.taskId);
    if (!wakes) return;
    waiting.delete(at.taskId);
    for (const wake of wakes) wake(ended);
  };
  const guarded = (stream: string, heard: (record: FollowedRecord) => void) => {
    return (record: FollowedRecord): void => {
      try {
        heard(record);
      } catch (error) {
        log.error({ stream, sequence: record.sequence, error: messageOf(error) }, "record left out of the read model");
      }
    };
  };
  const followers: Follower[] = [];
  const start = async (stream: string, heard: (record: FollowedRecord) => void): Promise<void> => {
    const fromSequence = (cursors.get(stream) ?? 0) + 1;
    followers.push(await follow(bus, { stream, fromSequence, log, onRecord: guarded(stream, heard) }));
  };
  const all = Array.from({ length: partitions }, (_, p) => [
    start(streams.jobs(p), (record) => {
      const taskId = record.subject.slice(record.subject.lastIndexOf(".") + 1);
      options.onJob(taskId, () => parseJobRecord(record.text()), streams.jobs(p), record.sequence);
    }),
    start(streams.results(p), (record) => heardResult(streams.results(p), record)),
  ]);
  await Promise.all(all.flat());

  return {
    recent(taskId) {
      const ended = recent.get(taskId);
      return ended && clock.now() - ended.endedAtMs < taskTtlMs ? ended : undefined;
    },
    onEnd(taskId, wake) {
      let wakes = waiting.get(taskId);
      if (!wakes) {
        wakes = new Set();
        waiting.set(taskId, wakes);
      }
      wakes.add(wake);
      return () => {
        wakes.delete(wake);
        if (wakes.size === 0 && waiting.get(taskId) === wakes) waiting.delete(taskId);
      };
    },
    caughtUp: Promise.all(followers.map((follower) => follower.caughtUp)).then(() => {}),
    stop: () => {
      for (const follower of followers) follower.stop();
    },
  };
}
