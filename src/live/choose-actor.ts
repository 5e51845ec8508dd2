// Which actor answers a live call: the one that its prefix falls to, unless that one has far more to do than the least
// busy. Pure. The counts are this gateway's own, taken before a call is sent: polled ones send a burst to one actor.

export interface Candidate {
  readonly id: string;
  /** What its prefixes are hashed with: stays the same when its process is started again. */
  readonly seat: string;
  /** Calls of this gateway at it. */
  readonly inFlight: number;
}

/** SGLang's values: affinity is given up where the load differs by more than both. */
const LOAD_DIFFERENCE_MAX = 64;
const LOAD_RATIO_MAX = 1.5;

/**
 * The id of one of `candidates`; null of none. Calls with the same `affinity` get the same actor, on every gateway, and
 * an actor more or less moves only its own share of them (rendezvous hashing). Empty: the least busy; `random` in [0, 1)
 * decides among equals.
 */
export function chooseActor(candidates: readonly Candidate[], affinity: string, random: number): string | null {
  const least = leastBusy(candidates, random);
  if (least === null || affinity === "") return least?.id ?? null;
  let preferred = least;
  let highest = -1;
  for (const candidate of candidates) {
    const score = Bun.hash.xxHash32(`${affinity} ${candidate.seat}`);
    if (score > highest || (score === highest && candidate.id < preferred.id)) {
      preferred = candidate;
      highest = score;
    }
  }
  const overloaded =
    preferred.inFlight - least.inFlight > LOAD_DIFFERENCE_MAX && preferred.inFlight > LOAD_RATIO_MAX * least.inFlight;
  return overloaded ? least.id : preferred.id;
}

function leastBusy(candidates: readonly Candidate[], random: number): Candidate | null {
  let fewest = Number.POSITIVE_INFINITY;
  for (const { inFlight } of candidates) fewest = Math.min(fewest, inFlight);
  const equals = candidates.filter(({ inFlight }) => inFlight === fewest);
  return equals[Math.floor(random * equals.length)] ?? null;
}
