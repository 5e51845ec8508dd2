import { describe, expect, test } from "bun:test";
import type { TaskRequest } from "./tasks.ts";
import { dueOf, isOverdue, startByOf, startTimes, timesProblem } from "./times.ts";

const now = Date.parse("2026-11-21T10:00:00.000Z");
const at = (ms: number): string => new Date(now + ms).toISOString();
const day = 86_400_000;
const request = (fields: Partial<TaskRequest>): TaskRequest => ({ model: "echo", input: {}, ...fields });
const timesOf = (fields: Partial<TaskRequest>) => startTimes(request(fields), now);

describe("the times of a request", () => {
  test("none, a time, a delay, a time zone", () => {
    expect(timesOf({})).toBeNull();
    expect(timesOf({ run_at: at(5_000) })).toEqual({ runAt: now + 5_000 });
    expect(timesOf({ run_at: "2026-11-21T12:00:00.5+01:00" })).toEqual({ runAt: now + 3_600_500 });
    expect(timesOf({ delay_ms: 250, deadline: at(day) })).toEqual({ runAt: now + 250, startBy: now + day });
  });

  test.each([
    ["both a time and a delay", { run_at: at(1), delay_ms: 1 }, "/delay_ms"],
    ["more than a year ahead", { run_at: at(365 * day + 1) }, "/run_at"],
    ["a deadline that is over", { deadline: at(0) }, "/deadline"],
    ["a deadline at the time itself", { run_at: at(5_000), deadline: at(5_000) }, "/deadline"],
    ["a deadline more than a year after", { delay_ms: day, deadline: at(366 * day + 1) }, "/deadline"],
  ])("%s is refused by its path", (_, fields, path) => {
    const problem = timesProblem(request(fields), timesOf(fields) ?? {}, now);
    expect({ code: problem?.code, path: problem?.fields[0]?.path }).toEqual({ code: "invalid_request", path });
  });

  test.each([
    ["a time that is over: at once", { run_at: at(-day) }],
    ["a year", { delay_ms: 365 * day, deadline: at(2 * 365 * day) }],
    ["a deadline just after", { run_at: at(5_000), deadline: at(5_001) }],
  ])("%s is right", (_, fields) => {
    expect(timesProblem(request(fields), timesOf(fields) ?? {}, now)).toBeNull();
  });
});

test("a job is due when it was accepted or later, and overdue a day after, or when it says", () => {
  const job = { created: now };
  expect([dueOf(job), startByOf(job)]).toEqual([now, now + day]);
  expect([dueOf({ ...job, runAt: now - 5 }), startByOf({ ...job, runAt: now + 5 })]).toEqual([now, now + day + 5]);
  const short = { ...job, runAt: now + 5, startBy: now + 9 };
  expect([isOverdue(short, now + 8), isOverdue(short, now + 9)]).toEqual([false, true]);
});
