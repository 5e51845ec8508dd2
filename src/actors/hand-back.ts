// Gives a dead or dying actor's jobs back to the queue at once. Called by the supervisor when a child has died, and by
// the beat thread of an actor without one, before it kills its own process. Must not be called while the process may
// still finish a job it names, or be given it again, except for the last step of that kill.
import type { Bus } from "../bus/connection.ts";
import { nak } from "../bus/queues.ts";
import { parseJob, subjects } from "../bus/subjects.ts";
import { retryDelayMs } from "../tasks/backoff.ts";
import type { EventRecord, RetryData, TaskError, Waiting } from "../tasks/records.ts";
import type { BoardJob, HeldJob } from "./scoreboard.ts";

export interface HandBack {
  readonly job: HeldJob;
  /** Why the attempt counts; null where it does not (a drain, a neighbour of the culprit). */
  readonly error: TaskError | null;
  /** True where the process died with the job in it and nobody knows why. */
  readonly crashed: boolean;
}

export const crashError: TaskError = {
  code: "runner_failed",
  message: "the actor's process died during the attempt",
  stage: "infer",
  retryable: true,
};

/** Publishes RETRY where the attempt counts, hands each job back, and rings. `random` is in [0, 1). */
export async function handBack(bus: Bus, entries: readonly HandBack[], random: () => number): Promise<void> {
  for (const { job, error, crashed } of entries) {
    const at = parseJob(job.jobSubject);
    if (!at) continue;
    let delayMs = 0;
    if (job.attempt > 0) {
      // A crash is repeated at once: who waits has lost time already, and the second one is the last.
      delayMs = error && !crashed ? retryDelayMs(job.attempt, random()) : 0;
      const event = error ? retryEvent(at.taskId, job, error, crashed, delayMs) : handedBackEvent(job);
      bus.publish(subjects.events(at.taskId), JSON.stringify(event));
    }
    nak(bus, job.ackSubject, delayMs);
    if (delayMs === 0) bus.publish(subjects.bell(at.model), JSON.stringify([[at.partition, at.level, at.lane, 1]]));
  }
  if (entries.length > 0) await bus.flush(2_000);
}

function retryEvent(taskId: string, job: HeldJob, error: TaskError, crashed: boolean, delayMs: number): EventRecord {
  const data: RetryData = { task_id: taskId, status: "RETRY", attempt: job.attempt, error, retry_in_ms: delayMs };
  const crashes = job.crashes + (crashed ? 1 : 0);
  return { v: 1, attempt: job.attempt, n: job.eventNumber + 1, crashes, event: "RETRY", data };
}

/** The attempt ends without counting: told to watchers as a log line, and to the next actor by the mark on it. */
export function handedBackEvent(
  job: Pick<HeldJob, "attempt" | "eventNumber" | "crashes">,
  waiting: Waiting | null = null,
): EventRecord {
  const { attempt, eventNumber, crashes } = job;
  const data = { level: "info", message: "handed back to the queue" };
  const wait = waiting && { waiting };
  return { v: 1, attempt, n: eventNumber + 1, crashes, event: "log", uncounted: true, ...wait, data };
}

const timeoutError: TaskError = {
  code: "timeout",
  message: "the attempt took longer than timeout_ms and did not stop",
  stage: "infer",
  retryable: true,
};

/**
 * A dead child's jobs, each by its fate: a crash and a timeout count against it, what another job or a cancel brought
 * about does not. Called once per death.
 */
export function handBackDead(bus: Bus, jobs: readonly BoardJob[], random: () => number): Promise<void> {
  const errors = { crash: crashError, timeout: timeoutError, cancel: null, neighbour: null } as const;
  const entries = jobs.map((job) => {
    const error = job.attempt > 0 ? errors[job.fate] : null;
    return { job, error, crashed: job.fate === "crash" };
  });
  return handBack(bus, entries, random);
}
