import { expect, test } from "bun:test";
import { parseSummary } from "./fsync.ts";
import { growth } from "./kept.ts";

test("growth compares the last quarter with the second, so that filling up is none", () => {
  expect(growth([1, 3, 10, 10, 10, 10, 10, 10])).toBe(0);
  expect(growth([1, 3, 10, 10, 11, 11, 12, 12])).toBeCloseTo(0.2);
});

test("fsyncs are summed over the kinds of call, with and without a column of errors", () => {
  const summary = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.900000         150      6000           fsync
 10.00    0.100000         100      1000         2 fdatasync
------ ----------- ----------- --------- --------- ----------------
100.00    1.000000         142      7000         2 total
`;
  expect(parseSummary(summary)).toEqual({ calls: 7_000, meanUs: 1e6 / 7_000 });
  expect(parseSummary("").calls).toBe(0);
});
