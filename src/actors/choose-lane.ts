// Which lane of a level an actor asks next, and for how many jobs. Pure. Lane a holds what keys with few tasks have
// waiting, lane b what stands behind them: four jobs of a go before one of b, whatever room there is, so that neither a
// long queue nor an endless stream of short ones stops the other.
import type { Lane } from "../bus/subjects.ts";
import { LANE_A_JOBS } from "../tasks/lanes.ts";

/** Jobs of lane a that went before b, less four for each that b had. */
type LaneDebt = number;
/** What lane b had while a was being asked is made good, up to so many jobs. */
const LANE_B_AHEAD_MAX = 64;

export interface LaneTurn {
  readonly lane: Lane;
  /** At least 1. */
  readonly jobsMax: number;
}

/** The lane to ask where both wait, with room for `room` (at least 1). */
export function chooseLane(debt: LaneDebt, room: number): LaneTurn {
  if (debt >= LANE_A_JOBS) return { lane: "b", jobsMax: Math.floor(debt / LANE_A_JOBS) };
  return { lane: "a", jobsMax: Math.max(1, Math.floor((room * LANE_A_JOBS) / (LANE_A_JOBS + 1))) };
}

/** After `jobs` were asked of `lane` while both had work. */
export const debtAfter = (debt: LaneDebt, lane: Lane, jobs: number): LaneDebt =>
  lane === "a" ? debt + jobs : Math.max(debt - LANE_A_JOBS * jobs, -LANE_A_JOBS * LANE_B_AHEAD_MAX);
