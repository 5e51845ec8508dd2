// Which stretches of the logs of results hold no end that somebody wants to be told of. The gateway's feed hears every
// result anyway and says so here; the intake then need not read their headers, on a thread that would wake up for each.
// Only ever a hint: what is not cleared is read.

/** Of one log: everything that stands from `from` to `to`, both included, was heard and asks for nothing. */
export interface ClearedRange {
  readonly partition: number;
  readonly from: number;
  readonly to: number;
}

export interface Cleared {
  /** A result, in the order of its log. */
  heard(partition: number, sequence: number, asksToBeTold: boolean): void;
  /** The ranges that have grown since the last call. */
  take(): readonly ClearedRange[];
}

export function createCleared(): Cleared {
  const ranges: { from: number; to: number; grown: boolean }[] = [];
  return {
    heard(partition, sequence, asksToBeTold) {
      const range = ranges[partition];
      if (asksToBeTold) ranges[partition] = { from: sequence + 1, to: sequence, grown: false };
      // The first one heard, or a log that has lost its end and counts anew.
      else if (!range || sequence <= range.to) ranges[partition] = { from: sequence, to: sequence, grown: true };
      else {
        range.to = sequence;
        range.grown = true;
      }
    },
    take() {
      const taken: ClearedRange[] = [];
      ranges.forEach((range, partition) => {
        if (!range.grown) return;
        range.grown = false;
        taken.push({ partition, from: range.from, to: range.to });
      });
      return taken;
    },
  };
}
