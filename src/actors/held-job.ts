// One job in an actor's hands, from its delivery to its ack: plain state, changed only by jobs.ts and attempt.ts.
import type { LoadedRunner } from "../registry/stages.ts";
import type { JobRecord, Waiting } from "../tasks/records.ts";

export interface Held {
  readonly job: JobRecord;
  readonly jobSubject: string;
  readonly runner: LoadedRunner;
  readonly partition: number;
  readonly controller: AbortController;
  /** Where the newest delivery of this job is acked. */
  ackSubject: string;
  /** Slot of the scoreboard. */
  slot: number;
  /** Its runner works on it, or will at once. False while its result is being written down. */
  running: boolean;
  attempt: number;
  crashes: number;
  maxAttempts: number;
  /** Set while this attempt waits for a model server: since when, and how often it was tried. */
  waiting: Waiting | null;
  /** Number of the last event of this attempt. */
  eventNumber: number;
  /** Random, of this attempt. */
  fence: string;
  startedAtMs: number;
  /** Milliseconds since the epoch; Infinity while the attempt has not begun. */
  deadlineMs: number;
  stopped: StopReason | null;
  /** Sequence of the cancel marker, 0 where none is known. */
  markerSequence: number;
}

export type StopReason = "cancel" | "timeout" | "shutdown";

/** What names the job in a line of the actor's log, which has the GPU already. */
export function logFields({ job, attempt }: Held): object {
  return { task_id: job.id, model: job.model, attempt, trace_id: job.trace.split("-")[1] ?? "" };
}
