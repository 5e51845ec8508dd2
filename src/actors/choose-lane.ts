// Which lane of a level an actor asks next, and for how many jobs. Pure. Lane a holds what keys with few tasks have
// waiting, lane b what stands behind them: four jobs of a go before one of b, whatever room there is, so that neither a
// long queue nor an endless stream of short ones stops the other.
import type { Lane } from "../bus/subjects.ts";
import { LANE_A_JOBS } from "../tasks/lanes.ts";

/** Jobs of lane a that went before b, less four for each that b had. */
type LaneDebt = number;
/** While lane a is being asked, lane b gets at most so many jobs more than its share; they are made good later. */
const LANE_B_AHEAD_MAX = 4;

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

/** Jobs that lane b, which has no turn, may be asked for while the broker still answers for lane a; 0: none. */
export const aheadOfTurn = (debt: LaneDebt): number => Math.max(0, Math.floor(debt / LANE_A_JOBS) + LANE_B_AHEAD_MAX);

/** After `jobs` were asked of `lane` while both had work. */
export const debtAfter = (debt: LaneDebt, lane: Lane, jobs: number): LaneDebt =>
  lane === "a" ? debt + jobs : debt - LANE_A_JOBS * jobs;
