// Does one thing to every task that a filter finds: cancel, or retry. Called by the bulk routes. Bounded in tasks and in
// time; it answers task by task and says where to go on. Doing it twice does no harm: a cancel is idempotent, and a bulk
// retry repeats a task once, however often it is asked.
import { AppError, asAppError, type ErrorCode, errorKinds } from "../errors.ts";
import type { Position, TaskFilter } from "./filter.ts";
import type { Find, Page } from "./find.ts";
import type { Retry } from "./retry.ts";
import { isTerminal } from "./task.ts";
import type { Owner, Tasks } from "./tasks.ts";

export interface BulkItem {
  readonly taskId: string;
  /** `skipped`: there was nothing to do: it had ended, it had not, or it had been retried so before. */
  readonly outcome: "accepted" | "skipped" | "failed";
  /** The new task of a retry, also of one that was made before. */
  readonly retriedAs?: string;
  /** Why it failed. */
  readonly code?: ErrorCode;
}

export interface Bulk {
  /** Cancels up to `limit` open tasks after `after`, newest first. Throws `broker_unavailable`, `not_ready`. */
  cancel(
    owner: Owner,
    filter: TaskFilter,
    after: Position | null,
    limit: number,
    signal: AbortSignal,
  ): Promise<Page<BulkItem>>;
  /**
   * Retries up to `limit` ended tasks after `after`, newest first, each at most once. Without a status: those that
   * failed. Throws also `too_many_queued`, `queue_full`, `storage_unavailable`.
   */
  retry(
    owner: Owner,
    filter: TaskFilter,
    after: Position | null,
    limit: number,
    trace: string | null,
    signal: AbortSignal,
  ): Promise<Page<BulkItem>>;
}

/** Done at once: enough to hide the way to the broker, few enough to leave room for others. */
const AT_ONCE = 16;
/** After this time no further task is begun; a proxy in between may wait for a minute. */
const BULK_MS_MAX = 20_000;

type Act = (taskId: string) => Promise<BulkItem>;

export function createBulk(find: Find, tasks: Pick<Tasks, "cancel">, retry: Retry): Bulk {
  return {
    async cancel(owner, filter, after, limit, signal) {
      const { status = "OPEN" } = filter;
      // Only the logs know which open task has started; to cancel them all there is no need to ask.
      const page = await find[status === "OPEN" ? "rows" : "tasks"](owner, { ...filter, status }, after, limit);
      return each(page, after, signal, async (taskId) => {
        await tasks.cancel(taskId, owner);
        return { taskId, outcome: "accepted" };
      });
    },
    async retry(owner, filter, after, limit, trace, signal) {
      const { status = "FAILURE" } = filter;
      if (status === "OPEN" || !isTerminal(status)) return { items: [], next: null };
      const page = await find.rows(owner, { ...filter, status }, after, limit);
      return each(page, after, signal, async (taskId) => {
        // Names that no client can give, because they hold a space.
        const accepted = await retry(taskId, owner, trace, `retry of ${taskId}`);
        return { taskId, outcome: accepted.replayed ? "skipped" : "accepted", retriedAs: accepted.taskId };
      });
    },
  };
}

/**
 * Acts on the tasks of a page, in order, some at once. It stops where something fails that may work later, and the page
 * that it gives ends before that; where this is the first task, it throws the reason.
 */
async function each(
  page: Page<Position>,
  after: Position | null,
  signal: AbortSignal,
  act: Act,
): Promise<Page<BulkItem>> {
  const deadlineMs = performance.now() + BULK_MS_MAX;
  const items: BulkItem[] = [];
  let last = after;
  // Whoever stops this gateway is no end of the list.
  if (signal.aborted) throw new AppError("not_ready", "The gateway stops: use another one.", { retryAfterS: 1 });
  for (let from = 0; from < page.items.length; from += AT_ONCE) {
    if (signal.aborted || performance.now() > deadlineMs) return { items, next: last };
    const group = page.items.slice(from, from + AT_ONCE);
    const outcomes = await Promise.allSettled(group.map(({ taskId }) => act(taskId)));
    for (const [index, position] of group.entries()) {
      const outcome = outcomes[index];
      if (outcome?.status === "fulfilled") items.push(outcome.value);
      else {
        const failed = failedItem(position.taskId, outcome?.reason);
        if (!failed && last === after) throw outcome?.reason;
        if (!failed) return { items, next: last };
        items.push(failed);
      }
      last = position;
    }
  }
  return { items, next: page.next };
}

/** Null for what may work later. Throws what is no failure of this task. */
function failedItem(taskId: string, reason: unknown): BulkItem | null {
  const code = asAppError(reason)?.code;
  if (code === undefined) throw reason;
  if (code === "task_finished" || code === "task_not_finished") return { taskId, outcome: "skipped" };
  return errorKinds[code].retry === "never" ? { taskId, outcome: "failed", code } : null;
}
