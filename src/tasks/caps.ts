// How much of a key may wait at once: tasks that have not ended, and the bytes of their inputs. Asked for every task
// before it is accepted. The count is an estimate, so that an acceptance waits for no other gateway: what is beyond the
// limits, and for how long, stands in docs/operations.md. It must never refuse a key whose tasks have ended.
//
// The larger of two counts decides, as in lanes.ts: the tasks of the last seconds that this gateway took and whose end it
// has not heard; and the open rows of the read model, with what was taken here since they were counted.
import type { SQL } from "bun";
import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { createRecentlyOpen } from "./recently-open.ts";
import { type OpenOfKey, openOfKey } from "./store.ts";

/** 0: no limit. */
export interface CapLimits {
  readonly tasksMax: number;
  readonly bytesMax: number;
}

/** A place for one task. Given back where it was not accepted, or had been before. */
export interface Room {
  giveBack(): void;
}

export interface Caps {
  /**
   * Counts a task with this input; `too_many_queued` where the key has no room for it. Waits only where the
   * database must be asked whether a key that was full still is.
   */
  take(taskId: string, keyId: string, inputJson: string): Room | AppError | Promise<Room | AppError>;
  ended(taskId: string): void;
  /** Resolves when no question to the database is under way. */
  settled(): Promise<void>;
}

/**
 * Rows are counted anew after so many tasks of a key: an eighth of what it may still send, after some seconds fewer;
 * once a second at most.
 */
const LOOK_AFTER_MIN = 8;
const LOOK_EVERY_MS = 1_000;
const LOOK_LATER_MS = 10_000;
/** A row is written about so long after its task was taken, and tasks are counted by slots of time. */
const READ_MODEL_BEHIND_MS = 1_000;
const SLOT_MS = 250;
const LOOKS_AT_ONCE_MAX = 4;
/** A request waits for a count no longer than this; a database that is away leaves what was known. */
const LOOK_MS_MAX = 500;
/** Rows that are looked at where the number of tasks has no limit. */
const ROWS_MAX = 100_000;
/** Tasks of a key that are counted by id. */
const COUNTED_MAX = 10_000;
/** Keys that are known; when there are more, those without a task of late are forgotten. */
const KEYS_MAX = 10_000;
const RETRY_AFTER_S = 5;

interface Count {
  tasks: number;
  bytes: number;
}

interface Slot extends Count {
  readonly fromMs: number;
  /** False once its tasks are among the rows. */
  counts: boolean;
}

interface Known {
  /** Taken here of late. */
  readonly recent: Count;
  rows: OpenOfKey;
  /** Taken here and not among the rows: the sum of `slots`. */
  readonly since: Count;
  slots: Slot[];
  lookedAtMs: number;
  looking: Promise<void> | null;
}

interface Taken {
  readonly key: Known;
  readonly slot: Slot;
  readonly bytes: number;
}

export interface CapsOptions {
  readonly sql: SQL;
  readonly limits: CapLimits;
  readonly clock: Clock;
  readonly log: Log;
}

const NO_ROOM_NEEDED: Room = { giveBack: () => {} };

export function createCaps({ sql, limits, clock, log }: CapsOptions): Caps {
  const { tasksMax, bytesMax } = limits;
  const keys = new Map<string, Known>();
  const looks = new Set<Promise<void>>();
  let failing = false;
  const recent = createRecentlyOpen<Taken>(clock, (taken, isOver) => {
    add(taken.key.recent, -1, -taken.bytes);
    if (isOver) leaveSlot(taken);
  });

  const knownOf = (keyId: string): Known => {
    let key = keys.get(keyId);
    if (!key) {
      if (keys.size >= KEYS_MAX) for (const [id, { recent }] of keys) if (recent.tasks === 0) keys.delete(id);
      const none = { tasks: 0, bytes: 0 };
      const lookedAtMs = Number.NEGATIVE_INFINITY;
      key = { recent: { ...none }, rows: none, since: { ...none }, slots: [], lookedAtMs, looking: null };
      keys.set(keyId, key);
    }
    return key;
  };
  const look = async (key: Known, keyId: string): Promise<void> => {
    key.lookedAtMs = clock.monotonicMs();
    const beforeMs = key.lookedAtMs - READ_MODEL_BEHIND_MS - SLOT_MS;
    try {
      key.rows = await openOfKey(sql, keyId, tasksMax || ROWS_MAX);
      forgetSlots(key, beforeMs);
      failing = false;
    } catch (error) {
      log[failing ? "debug" : "warn"]({ error: messageOf(error) }, "the open tasks of a key could not be counted");
      failing = true;
    }
  };
  const startLook = (key: Known, keyId: string): Promise<void> => {
    const looking = look(key, keyId).finally(() => {
      key.looking = null;
      looks.delete(looking);
    });
    key.looking = looking;
    looks.add(looking);
    return looking;
  };
  const wants = ({ rows, since, looking, lookedAtMs }: Known): boolean => {
    const left = tasksMax === 0 ? ROWS_MAX : Math.max(0, tasksMax - rows.tasks);
    const bytesLeft = bytesMax === 0 ? Number.POSITIVE_INFINITY : Math.max(0, bytesMax - rows.bytes);
    const agoMs = clock.monotonicMs() - lookedAtMs;
    const many = since.tasks >= left / 8 || since.bytes > bytesLeft / 8 || agoMs >= LOOK_LATER_MS;
    if (!many || since.tasks < LOOK_AFTER_MIN || agoMs < LOOK_EVERY_MS) return false;
    return looking === null && looks.size < LOOKS_AT_ONCE_MAX;
  };
  const refusal = ({ recent, rows, since }: Known, bytes: number): AppError | null => {
    const tasks = Math.max(recent.tasks, rows.tasks + since.tasks);
    if (tasksMax > 0 && tasks >= tasksMax) return tooMany(`${tasksMax} tasks that have not ended`);
    const waiting = Math.max(recent.bytes, rows.bytes + since.bytes);
    // One input alone may be larger: it could never be accepted else.
    if (bytesMax > 0 && tasks > 0 && waiting + bytes > bytesMax) {
      return tooMany(`${bytesMax} bytes of inputs of tasks that have not ended`);
    }
    return null;
  };
  const decide = (taskId: string, key: Known, bytes: number): Room | AppError => {
    const refused = refusal(key, bytes);
    if (refused) return refused;
    if (recent.has(taskId)) return NO_ROOM_NEEDED;
    const taken = { key, bytes, slot: slotOf(key, clock.monotonicMs()) };
    add(taken.slot, 1, bytes);
    add(key.since, 1, bytes);
    if (key.recent.tasks >= COUNTED_MAX) return { giveBack: () => leaveSlot(taken) };
    add(key.recent, 1, bytes);
    recent.add(taskId, taken);
    return { giveBack: () => void recent.remove(taskId) };
  };

  return {
    take(taskId, keyId, inputJson) {
      if (tasksMax === 0 && bytesMax === 0) return NO_ROOM_NEEDED;
      const bytes = bytesMax === 0 ? 0 : Buffer.byteLength(inputJson);
      const nowMs = clock.monotonicMs();
      recent.age(nowMs);
      const key = knownOf(keyId);
      if (refusal(key, bytes) === null) {
        const room = decide(taskId, key, bytes);
        if (wants(key)) void startLook(key, keyId);
        return room;
      }
      // What was counted long ago may have ended by now.
      const isOld = nowMs - key.lookedAtMs >= LOOK_EVERY_MS;
      const asked = key.looking ?? (isOld ? startLook(key, keyId) : null);
      const decideNow = () => decide(taskId, key, bytes);
      if (!asked) return decideNow();
      return withDeadline(asked, LOOK_MS_MAX, late).then(decideNow, decideNow);
    },
    ended: (taskId) => void recent.remove(taskId),
    settled: () => Promise.all(looks).then(() => {}),
  };
}

function add(count: Count, tasks: number, bytes: number): void {
  count.tasks += tasks;
  count.bytes += bytes;
}

function slotOf(key: Known, nowMs: number): Slot {
  const last = key.slots.at(-1);
  if (last && nowMs - last.fromMs < SLOT_MS) return last;
  const slot = { fromMs: nowMs, tasks: 0, bytes: 0, counts: true };
  key.slots.push(slot);
  return slot;
}

function leaveSlot({ key, slot, bytes }: Taken): void {
  if (!slot.counts) return;
  add(slot, -1, -bytes);
  add(key.since, -1, -bytes);
}

/** Their tasks are among the rows, as far as they have not ended. */
function forgetSlots(key: Known, beforeMs: number): void {
  for (const slot of key.slots) {
    if (slot.fromMs >= beforeMs) continue;
    slot.counts = false;
    add(key.since, -slot.tasks, -slot.bytes);
  }
  key.slots = key.slots.filter(({ counts }) => counts);
}

const late = (): Error => new Error("no answer in time");

const tooMany = (what: string): AppError =>
  new AppError("too_many_queued", `This key may have at most ${what}: wait until some end, or cancel some.`, {
    retryAfterS: RETRY_AFTER_S,
  });
