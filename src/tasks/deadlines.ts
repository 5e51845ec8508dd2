// Ends tasks whose latest start has passed and that were never started, or only in vain for want of a model server:
// FAILURE `deadline_exceeded`, or what they waited for, by the usual compare-and-set. Runs in every gateway; the read model
// says which tasks to look at, the logs and the actors decide. An actor that takes an overdue job ends it itself
// (actors/jobs.ts), so this is for the jobs that nobody takes.
import type { SQL } from "bun";
import type { Bus } from "../bus/connection.ts";
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import { commitResult } from "./commit.ts";
import { control } from "./holders.ts";
import type { TaskMetrics } from "./metrics.ts";
import { overdueWait } from "./model-wait.ts";
import type { Reader } from "./reader.ts";
import { forEachAtOnce, type Rounds, startRounds } from "./rounds.ts";
import { markBegun, type OverdueTask, overdueTasks } from "./store.ts";
import { deadlineError } from "./times.ts";
import { unheldEnd } from "./unheld.ts";

export interface DeadlinesOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  readonly partitions: number;
  readonly reader: Reader;
  readonly clock: Clock;
  readonly log: Log;
  /** Actors known to live. */
  readonly liveActors: () => number;
  readonly metrics: TaskMetrics;
}

const SWEEP_EVERY_MS = 1_000;
/** An actor that took the job just in time has said so by then, although its clock and ours differ a little. */
const GRACE_MS = 1_000;
/** Tasks of one page, and looked at at once: the gateway's requests go on beside them. */
const PAGE_MAX = 500;
const AT_ONCE_MAX = 16;
const COMMIT_MS_MAX = 5_000;

export function startDeadlines(options: DeadlinesOptions): Rounds {
  const { bus, sql, clock, log } = options;
  const round = async (stopping: AbortSignal): Promise<number> => {
    const beforeMs = clock.now() - GRACE_MS;
    let after: OverdueTask | null = null;
    while (bus.connected && !stopping.aborted) {
      const page: OverdueTask[] = await overdueTasks(sql, beforeMs, after, PAGE_MAX);
      const begun: string[] = [];
      try {
        await forEachAtOnce(page, AT_ONCE_MAX, stopping, async (task) => {
          if ((await settle(options, task, stopping)) === "begun") begun.push(task.taskId);
        });
      } finally {
        if (begun.length > 0) await markBegun(sql, begun);
      }
      if (page.length < PAGE_MAX) break;
      after = page.at(-1) ?? null;
    }
    return SWEEP_EVERY_MS;
  };
  return startRounds({ name: "deadlines", round, retryMs: SWEEP_EVERY_MS, log });
}

/** `begun`: it need not be looked at again. */
async function settle(
  { bus, partitions, reader, clock, log, liveActors, metrics }: DeadlinesOptions,
  { taskId, keyId }: OverdueTask,
  stopping: AbortSignal,
): Promise<"begun" | "open" | "ended"> {
  const reading = await reader.readLogs(taskId, { keyId });
  if (!reading) return "begun"; // the logs have lost it: nobody will start it
  if (reading.kind === "ended") return "ended"; // the read model is about to hear of it
  const { open } = reading;
  const inVain = open.last && overdueWait(open.last, clock.now());
  if (open.last && !inVain) return "begun";
  if (open.markerSequence > 0) return "open"; // its cancel ends it
  // Its events are kept for hours only: an actor may have been at it for longer.
  const expected = liveActors();
  const answers = expected > 0 ? await control(bus, taskId, { cancel: null, from: "gateway" }, expected) : null;
  if (answers && (answers.held > 0 || answers.free < expected)) return "open";
  const error = inVain ?? deadlineError;
  const commit = unheldEnd(taskId, open, { status: "FAILURE", error }, clock.now());
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(COMMIT_MS_MAX)]);
  const { kind } = await commitResult(bus, partitions, commit, { signal });
  if (kind === "won") {
    metrics.ended(open.job.model, open.job.priority, "FAILURE");
    log.info({ task_id: taskId, model: open.job.model, code: error.code }, "task ended");
  }
  return "ended";
}
