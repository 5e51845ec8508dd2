// Ends a task: writes its result record by compare-and-set and finds out who won, whatever gets lost on the way. Called
// by actors and by gateways (cancel); the broker itself refuses a second end.

import type { Bus } from "../bus/connection.ts";
import { append, type LogRecord, readLast } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import { pause } from "../clock.ts";
import { asAppError } from "../errors.ts";
import { partitionOf } from "../ids.ts";
import { CALLBACK_HEADER, type Callback, callbackHeaders, ENDED, wantsEnd } from "./callback.ts";
import { parseResultRecord, type ResultEnvelope, type ResultRecord, resultRecord } from "./records.ts";

export interface Commit extends Omit<ResultEnvelope, "callback"> {
  readonly model: string;
  readonly dataJson: string;
  /** The job's; makes the record one that the webhooks look at. Undefined for a marker, which ends nothing. */
  readonly callback: Callback | undefined;
  /** 0, or the sequence of the cancel marker that this record follows. */
  readonly expectedSequence: number;
}

export type Committed =
  | { readonly kind: "won"; readonly sequence: number }
  /** Another record stands: its text, or null when it is already gone. */
  | { readonly kind: "lost"; readonly by: StoredResult | null };

export interface StoredResult {
  readonly record: ResultRecord;
  readonly sequence: number;
}

export interface CommitOptions {
  /** Gives up when it aborts; the last error is thrown then. */
  readonly signal: AbortSignal;
  /** Called when the log is full, so that no further job is taken meanwhile. */
  readonly onFull?: () => void;
}

/** One publish. Well below what a canceller waits in all, so that a lost answer still leaves time for another. */
const ATTEMPT_TIMEOUT_MS = 2_000;
const WAIT_MS_MAX = 5_000;

/** Repeats until the outcome is known: an unknown one is repeated, a refused one is read. */
export async function commitResult(
  bus: Bus,
  partitions: number,
  commit: Commit,
  options: CommitOptions,
): Promise<Committed> {
  const partition = partitionOf(commit.taskId, partitions);
  const subject = subjects.result(partition, commit.model, commit.token, commit.taskId);
  const filter = subjects.anyResult(partition, commit.taskId);
  const { callback, ...head } = commit;
  const payload = resultRecord(wantsEnd(callback) ? { ...head, callback: true } : head, commit.dataJson);
  const headers = callbackHeaders(commit.callback);
  for (let waitMs = 50; ; waitMs = Math.min(WAIT_MS_MAX, waitMs * 2)) {
    try {
      const { expectedSequence } = commit;
      const timeoutMs = ATTEMPT_TIMEOUT_MS;
      const outcome = await append(bus, { subject, filter, payload, expectedSequence, timeoutMs, headers });
      if (outcome.kind === "stored") {
        if (headers[CALLBACK_HEADER]) bus.publish(subjects.callback(commit.taskId), ENDED);
        return { kind: "won", sequence: outcome.sequence };
      }
      const stands = await readResult(bus, partitions, commit.taskId);
      if (stands?.record.fence === commit.fence && stands.record.token === commit.token) {
        return { kind: "won", sequence: stands.sequence };
      }
      return { kind: "lost", by: stands };
    } catch (error) {
      const code = asAppError(error)?.code;
      if (code === "queue_full") options.onFull?.();
      else if (code !== "broker_unavailable") throw error;
      if (options.signal.aborted) throw error;
      if (bus.connected || !(await bus.whenConnected(waitMs))) await pause(waitMs, options.signal);
    }
  }
}

/** The newest result record of a task, read through the leader. */
export async function readResult(bus: Bus, partitions: number, taskId: string): Promise<StoredResult | null> {
  const partition = partitionOf(taskId, partitions);
  const stored = await readLast(bus, streams.results(partition), subjects.anyResult(partition, taskId), 2_000);
  return stored && storedResult(stored);
}

const storedResult = (stored: LogRecord): StoredResult => ({
  record: parseResultRecord(stored.text),
  sequence: stored.sequence,
});
