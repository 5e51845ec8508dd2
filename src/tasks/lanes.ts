// Which lane a key's next task travels in: a while the key has few unfinished tasks, b beyond that, so that one key's
// ten thousand do not stand before another's ten. The acceptance asks for each task and must not wait for it, so the
// number is an estimate: what the read model said last, what was accepted here since, less what was heard to end.
import type { Lane } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";

export interface Lanes {
  laneOf(keyId: string): Lane;
  /** A task of the key was accepted here. */
  accepted(keyId: string): void;
  /** A task of the key has ended, whoever accepted it. */
  ended(keyId: string): void;
}

export interface LanesOptions {
  /** The key's unfinished tasks as the read model has them, counted up to `max`. */
  readonly countOpen: (keyId: string, max: number) => Promise<number>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Jobs of lane a that actors take for one of lane b, where both wait. */
export const LANE_A_JOBS = 4;
/** Unfinished tasks of a key that travel in lane a; all its models together. */
export const LANE_A_MAX = 100;
/** The read model is asked after so many acceptances, and once a second at most: a key with few costs nothing. */
const LOOK_AFTER = 50;
const LOOK_MS_MIN = 1_000;
/** Keys in memory. */
const KEYS_MAX = 20_000;

interface Backlog {
  open: number;
  acceptedSinceLook: number;
  lookedAtMs: number;
}

export function createLanes({ countOpen, clock, log }: LanesOptions): Lanes {
  const backlogs = new Map<string, Backlog>();
  const look = async (keyId: string, backlog: Backlog): Promise<void> => {
    backlog.acceptedSinceLook = 0;
    backlog.lookedAtMs = clock.monotonicMs();
    const before = backlog.open;
    try {
      const counted = await countOpen(keyId, LANE_A_MAX);
      backlog.open = Math.max(0, counted + (backlog.open - before)); // and what happened meanwhile
    } catch (error) {
      log.warn({ error: messageOf(error) }, "the unfinished tasks of a key cannot be counted");
    }
  };
  return {
    laneOf: (keyId) => ((backlogs.get(keyId)?.open ?? 0) < LANE_A_MAX ? "a" : "b"),
    accepted(keyId) {
      let backlog = backlogs.get(keyId);
      if (!backlog) {
        if (backlogs.size >= KEYS_MAX) backlogs.clear(); // estimates: the next looks bring them back
        backlog = { open: 0, acceptedSinceLook: 0, lookedAtMs: Number.NEGATIVE_INFINITY };
        backlogs.set(keyId, backlog);
      }
      backlog.open++;
      if (++backlog.acceptedSinceLook < LOOK_AFTER || clock.monotonicMs() - backlog.lookedAtMs < LOOK_MS_MIN) return;
      void look(keyId, backlog);
    },
    ended(keyId) {
      const backlog = backlogs.get(keyId);
      if (backlog && backlog.open > 0) backlog.open--;
    },
  };
}
