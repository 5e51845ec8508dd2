// The tasks that one gateway has put somewhere in the last seconds and whose end it has not heard, by id: exact where the
// read model is still behind. lanes.ts and caps.ts count by it. In two generations, so that an end that is never heard is
// forgotten all the same, without a timer. It must never be taken for all that is open.
import type { Clock } from "../clock.ts";

/** A task is known for one to two of these; by then the read model has long had it. */
const GENERATION_MS = 5_000;

export interface RecentlyOpen<T> {
  has(taskId: string): boolean;
  add(taskId: string, entry: T): void;
  /** The task has ended, or was not put there after all. Its entry, where it was known. */
  remove(taskId: string): T | undefined;
  /** Forgets what is too old. */
  age(nowMs: number): void;
}

/** `gone` is called once for each entry that was added; `isOver`: it was removed, and not forgotten. */
export function createRecentlyOpen<T>(clock: Clock, gone: (entry: T, isOver: boolean) => void): RecentlyOpen<T> {
  let young = new Map<string, T>();
  let old = new Map<string, T>();
  let bornAtMs = clock.monotonicMs();
  return {
    has: (taskId) => young.has(taskId) || old.has(taskId),
    add: (taskId, entry) => void young.set(taskId, entry),
    remove(taskId) {
      const generation = young.has(taskId) ? young : old;
      const entry = generation.get(taskId);
      if (entry === undefined) return undefined;
      generation.delete(taskId);
      gone(entry, true);
      return entry;
    },
    age(nowMs) {
      if (nowMs - bornAtMs <= GENERATION_MS) return;
      for (const entry of old.values()) gone(entry, false);
      old = young;
      young = new Map();
      if (nowMs - bornAtMs > 2 * GENERATION_MS) {
        for (const entry of old.values()) gone(entry, false);
        old = new Map();
      }
      bornAtMs = nowMs;
    },
  };
}
