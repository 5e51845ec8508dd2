// Tasks that come again and again: cron schedules, kept in SQL and fired by every gateway. An occurrence is a task of its
// own whose client_request_id is made of the schedule and the occurrence, so that whoever fires it, and however often,
// makes one task. The row goes on to the next occurrence only after its task is kept; what was missed while nobody looked
// fires once.
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";
import { rfc3339 } from "../clock.ts";
import { AppError, asAppError, errorKinds, invalidField, messageOf } from "../errors.ts";
import { isTaskId, randomTaskId } from "../ids.ts";
import type { Log } from "../log.ts";
import { canonicalTimezone, nextOccurrence } from "./cron.ts";
import { forEachAtOnce, startRounds } from "./rounds.ts";
import {
  advanceSchedules,
  deleteSchedule,
  dueSchedules,
  type Fired,
  findSchedule,
  insertSchedule,
  listSchedules,
  nextScheduleMs,
  type ScheduleRow,
  stillDue,
} from "./schedule-store.ts";
import type { Owner, TaskRequest, Tasks } from "./tasks.ts";

/** A body that has passed its schema, with a task that would be accepted now. */
export interface ScheduleRequest {
  readonly name?: string;
  readonly cron: string;
  /** Default: UTC. */
  readonly timezone?: string;
  readonly task: TaskRequest;
}

/** Every method answers for the owner's schedules alone. */
export interface Schedules {
  /** Throws `invalid_request`, `too_many_schedules`. */
  create(request: ScheduleRequest, owner: Owner): Promise<ScheduleRow>;
  /** Throws `schedule_not_found`. */
  get(id: string, owner: Owner): Promise<ScheduleRow>;
  /** Newest first; `after` is the last id of the page before. */
  list(owner: Owner, after: string | null, countMax: number): Promise<ScheduleRow[]>;
  /** It fires no more; tasks that it has made go on. Throws `schedule_not_found`. */
  remove(id: string, owner: Owner): Promise<void>;
}

export interface SchedulesOptions {
  /** The database of what is kept. */
  readonly sql: SQL;
  readonly accept: Tasks["accept"];
  /** Whether the key still stands: schedules of one that was revoked do not fire. */
  readonly isKey: (keyId: string) => boolean;
  /** Why results cannot be sent to a URL, for the client; null when they can. */
  readonly callbackProblem: (url: string) => string | null;
  readonly clock: Clock;
  readonly log: Log;
}

/** A program that makes a schedule where it means a task is told so. */
export const SCHEDULES_PER_KEY_MAX = 100;
/** Of the task as JSON: a list of schedules must stay small enough to be sent. */
export const SCHEDULED_TASK_BYTES_MAX = 64 * 1024;
/** Another gateway's new schedules are heard of so; no expression occurs more often than once a minute. */
const LOOK_EVERY_MS = 1_000;
const PAGE_MAX = 100;
const AT_ONCE_MAX = 8;

/** Fires what is due from now on, until stop(). */
export function openSchedules(options: SchedulesOptions): Schedules & { stop(): Promise<void> } {
  const { sql, clock, log } = options;
  const round = async (stopping: AbortSignal): Promise<number> => {
    const nowMs = clock.now();
    let unfinished = false;
    for (let after: ScheduleRow | null = null; !stopping.aborted; ) {
      const page: ScheduleRow[] = await dueSchedules(sql, nowMs, after, PAGE_MAX);
      const fired: Fired[] = [];
      await forEachAtOnce(page, AT_ONCE_MAX, stopping, async (schedule) => {
        const outcome = await fire(options, schedule);
        if (outcome) fired.push(outcome);
        else unfinished = true;
      });
      if (fired.length > 0) await advanceSchedules(sql, fired);
      if (page.length < PAGE_MAX) break;
      after = page.at(-1) ?? null;
    }
    const nextMs = unfinished ? null : await nextScheduleMs(sql);
    return nextMs === null ? LOOK_EVERY_MS : Math.min(LOOK_EVERY_MS, nextMs - clock.now());
  };
  const rounds = startRounds({ name: "schedules", round, retryMs: LOOK_EVERY_MS, log });
  return { ...createBook(options), stop: rounds.stop };
}

/** Null where it could not be fired now, or need not be any more: the next round looks again. */
async function fire(
  { sql, accept, isKey, clock, log }: SchedulesOptions,
  schedule: ScheduleRow,
): Promise<Fired | null> {
  const { id, keyId, cron, timezone } = schedule;
  const occurrenceMs = schedule.nextMs ?? 0;
  if (!(await stillDue(sql, schedule))) return null;
  const nextMs = nextOccurrence(cron, timezone, Math.max(clock.now(), occurrenceMs));
  if (!isKey(keyId)) return { schedule, nextMs, taskId: null, error: "unauthorized" };
  const crid = `cron:${id}:${rfc3339(occurrenceMs)}`;
  try {
    const request = { ...(JSON.parse(schedule.task) as TaskRequest), client_request_id: crid };
    const { taskId } = await accept(request, { keyId }, null);
    log.debug({ schedule_id: id, task_id: taskId }, "schedule fired");
    return { schedule, nextMs, taskId, error: null };
  } catch (error) {
    const code = asAppError(error)?.code ?? "internal";
    // What may succeed later is tried again each second, and fires once then.
    const again = errorKinds[code].retry !== "never";
    const fields = { schedule_id: id, code, error: messageOf(error) };
    log[again ? "debug" : "warn"](fields, again ? "schedule is fired later" : "an occurrence was refused");
    return again ? null : { schedule, nextMs, taskId: null, error: code };
  }
}

function createBook({ sql, clock, callbackProblem }: SchedulesOptions): Schedules {
  return {
    async create({ name, cron, timezone = "UTC", task }, { keyId }) {
      const createdMs = clock.now();
      const zone = canonicalTimezone(timezone);
      if (zone === null)
        throw invalidField("/timezone", "is not a time zone of the tz database, such as Europe/Berlin");
      const nextMs = nextOccurrence(cron, zone, createdMs);
      if (nextMs === null) {
        throw invalidField(
          "/cron",
          "must be minute, hour, day, month and weekday, or @hourly and its like, and must occur",
        );
      }
      const callback = task.callback_url === undefined ? null : callbackProblem(task.callback_url);
      if (callback !== null) throw invalidField("/task/callback_url", callback);
      const taskJson = JSON.stringify(task);
      if (Buffer.byteLength(taskJson) > SCHEDULED_TASK_BYTES_MAX) {
        throw invalidField(
          "/task",
          `must have at most ${SCHEDULED_TASK_BYTES_MAX / 1024} KiB: send large inputs by URL or file_id`,
        );
      }
      const none = { lastMs: null, lastTaskId: null, lastError: null };
      const id = randomTaskId(createdMs);
      const row = { id, keyId, name: name ?? null, cron, timezone: zone, task: taskJson, createdMs, nextMs, ...none };
      if (await insertSchedule(sql, row, SCHEDULES_PER_KEY_MAX)) return row;
      throw new AppError("too_many_schedules", `This key has ${SCHEDULES_PER_KEY_MAX} schedules: delete some first.`);
    },
    async get(id, { keyId }) {
      const row = isTaskId(id) ? await findSchedule(sql, keyId, id) : null;
      if (row === null) throw missing();
      return row;
    },
    list: ({ keyId }, after, countMax) => listSchedules(sql, keyId, after, countMax),
    async remove(id, { keyId }) {
      if (!isTaskId(id) || !(await deleteSchedule(sql, keyId, id))) throw missing();
    },
  };
}

const missing = (): AppError => new AppError("schedule_not_found", "There is no schedule with this id.");
