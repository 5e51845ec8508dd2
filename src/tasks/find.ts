// Finds tasks of one key: pages of them, newest first, from the read model, with what the logs say of those that have
// not ended. Called by the routes of lists and by bulk actions. It reads a bounded number of rows a call and says where
// to go on; searches take turns, so that however many there are, they take half of the event loop at most.
import type { SQL } from "bun";
import { AppError, asAppError } from "../errors.ts";
import type { Position, TaskFilter } from "./filter.ts";
import { isSearch, type ListedRow, readWindow, type Window } from "./listing.ts";
import type { Owner, Tasks, TaskView } from "./tasks.ts";

export interface Page<T> {
  readonly items: readonly T[];
  /** Where to go on; null where nothing follows. */
  readonly next: Position | null;
}

/** A task as its owner sees it, and its place in the list. */
export interface FoundTask extends TaskView {
  readonly createdMs: number;
}

export interface Find {
  /**
   * Up to `limit` tasks after `after`. A page may be short or empty although more follow: a search looks at 50,000 rows
   * a call, one by status of an open task at 500, and either ends after 5 s. Rows may lag the logs by a second. Throws
   * `not_ready` where too many searches wait, `broker_unavailable`.
   */
  tasks(owner: Owner, filter: TaskFilter, after: Position | null, limit: number): Promise<Page<FoundTask>>;
  /** The same without reading the logs, for who needs the ids alone: what it gives may have ended meanwhile. */
  rows(owner: Owner, filter: TaskFilter, after: Position | null, limit: number): Promise<Page<ListedRow>>;
}

/** Rows that one call looks at. At half of one core this is 100 ms to 300 ms. */
const EXAMINED_MAX = 50_000;
/** No further window is begun after it. Sockets are cut after ten seconds of silence. */
const FIND_MS_MAX = 5_000;
/** Open tasks that one call reads from the logs, three requests each, because only those know what has started. */
const OPEN_EXAMINED_MAX = 500;
/** Read at once. */
const OPEN_BATCH = 50;
/** Rows that one query of a search looks at: usually a millisecond of SQLite, 60 where every row is as slow as can be. */
const FIRST_WINDOW_ROWS = 250;
const WINDOW_ROWS_MAX = 500;
/** Searches that may wait for their turn here. */
const SEARCHES_MAX = 64;

export function createFind(sql: SQL, tasks: Pick<Tasks, "read">): Find {
  const turns = createTurns();

  const window: ReadWindow = (owner, filter, after, limit, windowRows) => {
    const read = (): Promise<Window> => readWindow(sql, owner, filter, after, limit, windowRows);
    return isSearch(filter) ? turns.take(read) : read().then((found) => ({ ...found, tookMs: 0 }));
  };
  /** The task as it is now, or null where it is gone or, by now, no longer what was asked for. */
  const show = async (owner: Owner, { status }: TaskFilter, row: ListedRow): Promise<FoundTask | null> => {
    const { taskId, createdMs, data } = row;
    if (data !== null) return { taskId, createdMs, status: row.status, terminal: true, json: data };
    try {
      const view = { ...(await tasks.read(taskId, owner)), createdMs };
      const asked = status === undefined || (status === "OPEN" ? !view.terminal : view.status === status);
      return asked ? view : null;
    } catch (error) {
      if (asAppError(error)?.code === "task_not_found") return null;
      throw error;
    }
  };
  return {
    tasks: (owner, filter, after, limit) =>
      collect(window, owner, filter, after, limit, (row) => show(owner, filter, row)),
    rows: (owner, filter, after, limit) => collect(window, owner, filter, after, limit, async (row) => row),
  };
}

type ReadWindow = (
  owner: Owner,
  filter: TaskFilter,
  after: Position | null,
  limit: number,
  windowRows: number,
) => Promise<Window & { readonly tookMs: number }>;

/** Reads windows until `limit` rows are there, nothing follows, or enough has been looked at. */
async function collect<T>(
  read: ReadWindow,
  owner: Owner,
  filter: TaskFilter,
  after: Position | null,
  limit: number,
  show: (row: ListedRow) => Promise<T | null>,
): Promise<Page<T>> {
  const items: T[] = [];
  let last: Position | null = null;
  let examined = 0;
  let shown = 0;
  let windowRows = FIRST_WINDOW_ROWS;
  const deadlineMs = performance.now() + FIND_MS_MAX;
  for (let from = after; ; ) {
    const batch = Math.min(limit - items.length + 1, OPEN_BATCH);
    const { rows, reached, tookMs } = await read(owner, filter, from, batch, windowRows);
    const views = await Promise.all(rows.map(show));
    for (const [index, row] of rows.entries()) {
      const view = views[index] ?? null;
      if (view === null) continue;
      if (items.length === limit) return { items, next: last };
      items.push(view);
      last = { createdMs: row.createdMs, taskId: row.taskId };
    }
    if (reached === null) return { items, next: null };
    from = reached;
    examined += isSearch(filter) ? windowRows : rows.length;
    windowRows = Math.max(1, Math.min(nextWindowRows(windowRows, tookMs), EXAMINED_MAX - examined));
    shown += rows.filter(({ data }) => data === null).length;
    const enough = examined >= EXAMINED_MAX || shown >= Math.max(OPEN_EXAMINED_MAX, limit + 1);
    if (enough || performance.now() > deadlineMs) return { items, next: from };
  }
}

/** Long texts and words that nearly occur are slow: a search must not be able to choose how long the loop stands. */
function nextWindowRows(rows: number, tookMs: number): number {
  if (tookMs < 1) return Math.min(WINDOW_ROWS_MAX, rows * 2);
  return tookMs > 4 ? Math.max(20, Math.floor((rows * 2) / tookMs)) : rows;
}

/** One at a time, each followed by a rest of its own length. */
function createTurns(): { take<T>(work: () => Promise<T>): Promise<T & { readonly tookMs: number }> } {
  let free: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return {
    async take(work) {
      if (waiting >= SEARCHES_MAX) {
        throw new AppError("not_ready", "Too many searches wait here already.", { retryAfterS: 1 });
      }
      waiting++;
      const before = free;
      const done = Promise.withResolvers<void>();
      free = done.promise;
      await before;
      const startMs = performance.now();
      try {
        return { ...(await work()), tookMs: performance.now() - startMs };
      } finally {
        waiting--;
        setTimeout(done.resolve, performance.now() - startMs);
      }
    },
  };
}
