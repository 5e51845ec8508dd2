// Time as the engine sees it: the machine's, or a virtual one that jumps from event to event, so that a test runs an
// hour of traffic in milliseconds and always the same way. The engine is the same for both.

export interface EngineClock {
  /** Microseconds on a clock that never goes back; only differences mean anything. */
  nowUs(): number;
  /** Calls back once, as near to `atUs` as it can; never before it returns. */
  at(atUs: number, call: () => void): void;
  /** How much too early that may be. */
  readonly earlyUsMax: number;
}

/** The machine's clock. Its timers are as exact as a millisecond; whoever counts on from `atUs` stays exact on average. */
export const wallClock: EngineClock = {
  nowUs: () => performance.now() * 1_000,
  earlyUsMax: 500,
  at(atUs, call) {
    const waitMs = atUs / 1_000 - performance.now();
    if (waitMs * 1_000 < wallClock.earlyUsMax) setImmediate(call);
    else setTimeout(call, waitMs).unref(); // a server that has stopped waits for no step
  },
};

export interface VirtualClock extends EngineClock {
  /** Runs what is due, in the order of its time, until nothing is left or `untilUs` is passed. */
  run(untilUs?: number): void;
}

export function createVirtualClock(): VirtualClock {
  const due: { atUs: number; order: number; call: () => void }[] = [];
  let nowUs = 0;
  let order = 0;
  return {
    nowUs: () => nowUs,
    earlyUsMax: 0,
    at(atUs, call) {
      due.push({ atUs: Math.max(atUs, nowUs), order: order++, call });
      due.sort((one, other) => one.atUs - other.atUs || one.order - other.order);
    },
    run(untilUs = Number.POSITIVE_INFINITY) {
      for (let next = due[0]; next && next.atUs <= untilUs; next = due[0]) {
        due.shift();
        nowUs = next.atUs;
        next.call();
      }
      if (Number.isFinite(untilUs)) nowUs = Math.max(nowUs, untilUs);
    },
  };
}
