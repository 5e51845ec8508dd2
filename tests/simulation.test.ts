// The promises on a task's end, against thousands of random lives of it (simulation.ts). SEED=… repeats a failure.
import { expect, test } from "bun:test";
import { randomNumbers } from "./random-numbers.ts";
import { Simulation } from "./simulation.ts";

const SCHEDULES = 5_000;

test(`${SCHEDULES} random schedules: one end, none after a marker but CANCELLED, bounded attempts, and always an end`, () => {
  const first = randomNumbers().seed;
  const ends: Record<string, number> = {};
  let starts = 0;
  let waits = 0;
  for (let n = 0; n < SCHEDULES; n++) {
    const seed = (first + n) >>> 0;
    const simulation = new Simulation(randomNumbers(seed));
    try {
      simulation.run(60);
    } catch (error) {
      throw new Error(`SEED=${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
    starts += simulation.counts.starts;
    waits += simulation.counts.waits;
    for (const [status, count] of Object.entries(simulation.counts.ends)) ends[status] = (ends[status] ?? 0) + count;
  }
  // Schedules that never led to one of the ends would have tested nothing of it.
  for (const status of ["SUCCESS", "FAILURE", "CANCELLED"]) expect(ends[status]).toBeGreaterThan(SCHEDULES / 50);
  expect(starts).toBeGreaterThan(SCHEDULES);
  expect(waits).toBeGreaterThan(SCHEDULES / 50);
});

test("a seed repeats its schedule", () => {
  const run = (seed: number) => {
    const simulation = new Simulation(randomNumbers(seed));
    simulation.run(60);
    return simulation.counts;
  };
  expect(run(7)).toEqual(run(7));
});
