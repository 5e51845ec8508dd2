// What a gateway hears of the log of results as it grows: it keeps the newest ends in memory and wakes who waits for one.
// A record heard here is in the log; one not heard yet may be in it all the same, so "not here" is never an answer.
import type { Bus } from "../bus/connection.ts";
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import { followLogs, type HeardResult } from "./logs.ts";
import { statusOf } from "./records.ts";
import type { TerminalStatus } from "./task.ts";

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
  readonly onResult: (heard: HeardResult) => void;
}

export interface Feed {
  /** The end of a task, where it was heard lately. */
  recent(taskId: string): EndedTask | undefined;
  /** Calls `wake` once when the task's end is heard. The returned function takes it back. */
  onEnd(taskId: string, wake: (ended: EndedTask) => void): () => void;
  stop(): void;
}

/**
 * Ends kept in memory, in two generations: when the younger is full it becomes the older, and that one is forgotten.
 * Enough for the clients that ask right after an end, few enough to cost some megabytes.
 */
const GENERATION_MAX = 4_000;
const GENERATION_CHARS_MAX = 4 * 1024 * 1024;

export async function openFeed(options: FeedOptions): Promise<Feed> {
  const { bus, partitions, cursors, log, clock, taskTtlMs } = options;
  let young = new Map<string, EndedTask>();
  let old = new Map<string, EndedTask>();
  let youngChars = 0;
  const waiting = new Map<string, Set<(ended: EndedTask) => void>>();

  const remember = (taskId: string, ended: EndedTask): void => {
    if (young.size >= GENERATION_MAX || youngChars + ended.dataJson.length > GENERATION_CHARS_MAX) {
      old = young;
      young = new Map();
      youngChars = 0;
    }
    young.set(taskId, ended);
    youngChars += ended.dataJson.length;
  };
  const heardResult = (heard: HeardResult): void => {
    options.onResult(heard);
    const { record: result } = heard;
    const status = statusOf(result.token);
    if (!status) return;
    const ended: EndedTask = {
      keyId: result.keyId,
      status,
      eventId: result.eventId,
      dataJson: result.dataJson,
      endedAtMs: result.timeMs,
    };
    remember(result.taskId, ended);
    const wakes = waiting.get(result.taskId);
    if (!wakes) return;
    waiting.delete(result.taskId);
    for (const wake of wakes) wake(ended);
  };
  const logs = await followLogs({ bus, partitions, cursors, log, onJob: null, onResult: heardResult });

  return {
    recent(taskId) {
      const ended = young.get(taskId) ?? old.get(taskId);
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
    stop: logs.stop,
  };
}
