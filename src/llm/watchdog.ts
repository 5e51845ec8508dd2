// Deadlines of many calls on one timer: a call moves its deadline with each token, and a timer for each would cost more
// than the token. Late by at most TICK_MS. The timer runs only while something is watched.
import type { Clock } from "../clock.ts";

const TICK_MS = 20;

export interface Watched {
  /** By `clock.monotonicMs`; move it as you like. */
  deadlineMs: number;
  /** Idempotent. */
  stop(): void;
}

export class Watchdog {
  readonly #clock: Clock;
  readonly #entries = new Set<Entry>();
  #timer: ReturnType<typeof setInterval> | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.monotonicMs();
  }

  /** Calls `onLate` once, when the deadline has passed; it must not throw. */
  watch(deadlineMs: number, onLate: () => void): Watched {
    const entry: Entry = { deadlineMs, onLate, stop: () => this.#drop(entry) };
    this.#entries.add(entry);
    this.#timer ??= setInterval(() => this.#look(), TICK_MS);
    return entry;
  }

  #look(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const entry of this.#entries) {
      if (entry.deadlineMs > nowMs) continue;
      this.#drop(entry);
      entry.onLate();
    }
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry);
    if (this.#entries.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

interface Entry extends Watched {
  readonly onLate: () => void;
}
