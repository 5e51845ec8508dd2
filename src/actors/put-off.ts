// The jobs that this actor has put off because no model server could begin on them: how soon each may come back, so that
// a long queue in front of a server that is down costs little, and how all of them are fetched when one has come up.
// jobs.ts keeps one. It is a hint: what it forgets comes back by its own delay.
import type { Bus } from "../bus/connection.ts";
import { nak } from "../bus/queues.ts";

export interface PutOff {
  /** `askedMs`, or more where too many come back at that time. */
  delayMs(nowMs: number, askedMs: number): number;
  /** The job was handed back, to be delivered again at `dueMs`. */
  add(taskId: string, ackSubject: string, dueMs: number): void;
  remove(taskId: string): void;
  /** Has all that wait delivered now. */
  wake(nowMs: number): void;
}

/** A try costs actor and broker about three milliseconds of CPU. */
const RETURNS_PER_S_MAX = 100;
/** Beyond it the oldest is forgotten: it is due first. */
const REMEMBERED_MAX = 10_000;
/** What is due so soon may be on its way, and must not be delivered twice. */
const SOON_MS = 100;

export function createPutOff(bus: Bus, random: () => number): PutOff {
  const jobs = new Map<string, { readonly ackSubject: string; readonly dueMs: number }>();
  /** How many come back in each second since the epoch. */
  const returns = new Map<number, number>();
  let prunedAtS = 0;
  const prune = (nowS: number): void => {
    if (nowS === prunedAtS) return;
    prunedAtS = nowS;
    for (const second of returns.keys()) if (second < nowS) returns.delete(second);
  };
  return {
    delayMs(nowMs, askedMs) {
      prune(Math.floor(nowMs / 1_000));
      const asked = Math.floor((nowMs + askedMs) / 1_000);
      let second = asked;
      while ((returns.get(second) ?? 0) >= RETURNS_PER_S_MAX) second++;
      returns.set(second, (returns.get(second) ?? 0) + 1);
      return second === asked ? askedMs : Math.round((second + random()) * 1_000 - nowMs);
    },
    add(taskId, ackSubject, dueMs) {
      const [oldest] = jobs.keys();
      if (jobs.size >= REMEMBERED_MAX && oldest !== undefined) jobs.delete(oldest);
      jobs.set(taskId, { ackSubject, dueMs });
    },
    remove: (taskId) => void jobs.delete(taskId),
    wake(nowMs) {
      for (const { ackSubject, dueMs } of jobs.values()) if (dueMs > nowMs + SOON_MS) nak(bus, ackSubject);
      jobs.clear();
      returns.clear();
    },
  };
}
