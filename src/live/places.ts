// Who gets the places of a model in one gateway. A key may take all of them while nobody else asks; where a call of another
// key found no room, those who hold more than their share leave places free for it. caller.ts asks once a call, in
// microseconds. It ends no call, holds none back, and knows of no other gateway.
//
// Room ends at the model's limit, or where its servers have said so. Then a call is refused, its key waits for PRESSED_MS
// (clients come back within seconds), and as long as another key waits whoever holds more than room / (keys that hold some
// + 1) takes no place of the last sixteenth. So a key that comes back finds one as soon as calls end, and keys that all
// want more converge to equal shares; what others leave unused anybody may have. A bound without a queue: nobody's call
// waits here, and a limit of 1 is whoever's comes first.
import type { Clock } from "../clock.ts";

/** `full`: nobody gets a place now. `share`: this key has its share, and others wait. */
export type Taken = "taken" | "full" | "share";

export interface Places {
  /** Takes one of `max` places, which `leave` gives back. */
  take(model: string, max: number, keyId: string): Taken;
  leave(model: string, keyId: string): void;
  /** The model's servers had no room for a call of the key, which has left. */
  refused(model: string, keyId: string): void;
  /** Calls under way, by model. */
  readonly inFlight: ReadonlyMap<string, number>;
}

/** SDKs try again after the second that they are told, and then after 8 at most. */
export const PRESSED_MS = 10_000;
const RESERVED_PART = 16;

/** Of a model that has calls under way. */
interface Held {
  readonly byKey: Map<string, number>;
  /** When a call of the key found no room, by the monotonic clock; the oldest first. */
  readonly waiting: Map<string, number>;
  /** Places that there were when one was refused last. */
  room: number;
}

export function createPlaces(clock: Pick<Clock, "monotonicMs">): Places {
  const inFlight = new Map<string, number>();
  const models = new Map<string, Held>();
  return {
    inFlight,
    take(model, max, keyId) {
      const total = inFlight.get(model) ?? 0;
      const held = models.get(model) ?? newHeld();
      models.set(model, held);
      if (total >= max) {
        wait(held, keyId, total, clock.monotonicMs());
        return "full";
      }
      const own = held.byKey.get(keyId) ?? 0;
      if (held.waiting.size > 0) {
        forgetWaits(held, clock.monotonicMs());
        if (isBeyondShare(held, keyId, own, total, max)) return "share";
      }
      held.byKey.set(keyId, own + 1);
      inFlight.set(model, total + 1);
      return "taken";
    },
    leave(model, keyId) {
      const total = (inFlight.get(model) ?? 0) - 1;
      const byKey = models.get(model)?.byKey;
      const own = (byKey?.get(keyId) ?? 0) - 1;
      if (own > 0) byKey?.set(keyId, own);
      else byKey?.delete(keyId);
      if (total > 0) return void inFlight.set(model, total);
      inFlight.delete(model);
      models.delete(model); // whoever waits finds all of it free
    },
    refused(model, keyId) {
      const held = models.get(model);
      if (held) wait(held, keyId, inFlight.get(model) ?? 0, clock.monotonicMs());
    },
  };
}

const newHeld = (): Held => ({ byKey: new Map(), waiting: new Map(), room: 0 });

function wait(held: Held, keyId: string, room: number, nowMs: number): void {
  held.waiting.delete(keyId);
  held.waiting.set(keyId, nowMs);
  held.room = room;
}

function forgetWaits({ waiting }: Held, nowMs: number): void {
  for (const [keyId, sinceMs] of waiting) {
    if (nowMs - sinceMs < PRESSED_MS) return;
    waiting.delete(keyId);
  }
}

function isBeyondShare(held: Held, keyId: string, own: number, total: number, max: number): boolean {
  const { waiting, byKey } = held;
  const others = waiting.size - (waiting.has(keyId) ? 1 : 0);
  const room = Math.min(max, held.room);
  if (others === 0 || own === 0 || own < room / (byKey.size + 1)) return false;
  return room - total <= Math.ceil(room / RESERVED_PART);
}
