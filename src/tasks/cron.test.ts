import { describe, expect, test } from "bun:test";
import { canonicalTimezone, nextOccurrence } from "./cron.ts";

/** The next `count` occurrences as the clock of UTC shows them. */
function after(from: string, cron: string, zone: string, count: number): string[] {
  const found: string[] = [];
  for (let at = Date.parse(from); found.length < count; ) {
    const next = nextOccurrence(cron, zone, at);
    if (next === null) break;
    found.push(new Date(next).toISOString().slice(5, 16));
    at = next;
  }
  return found;
}

describe("Berlin goes forward on 28 March 2027, from 02:00 to 03:00 (01:00 in UTC)", () => {
  const zone = "Europe/Berlin";

  test("a time in the gap occurs right after it, once, and keeps its hour on the wall before and after", () => {
    const found = ["03-27T01:30", "03-28T01:00", "03-29T00:30"];
    expect(after("2027-03-26T12:00:00Z", "30 2 * * *", zone, 3)).toEqual(found);
  });

  test("what is meant for every hour goes on in real time", () => {
    const found = ["03-28T00:30", "03-28T01:00", "03-28T01:30", "03-28T02:00"];
    expect(after("2027-03-28T00:00:00Z", "*/30 * * * *", zone, 4)).toEqual(found);
  });
});

describe("Berlin goes back on 25 October 2026, from 03:00 to 02:00 (01:00 in UTC)", () => {
  const zone = "Europe/Berlin";

  test("a time that comes twice occurs the first time", () => {
    const found = ["10-24T00:30", "10-25T00:30", "10-26T01:30"];
    expect(after("2026-10-23T12:00:00Z", "30 2 * * *", zone, 3)).toEqual(found);
  });

  test("what is meant for every hour occurs in both", () => {
    const found = ["10-24T23:00", "10-25T00:00", "10-25T01:00", "10-25T02:00"];
    expect(after("2026-10-24T22:30:00Z", "@hourly", zone, 4)).toEqual(found);
  });
});

test("an occurrence is strictly after, in its zone, on one of the days", () => {
  expect(after("2026-11-20T05:30:00Z", "30 0 * * MON-FRI", "America/New_York", 2)).toEqual([
    "11-23T05:30",
    "11-24T05:30",
  ]);
  expect(after("2026-11-21T00:00:00Z", "0 0 13 * FRI", "UTC", 3)).toEqual([
    "11-27T00:00",
    "12-04T00:00",
    "12-11T00:00",
  ]);
  expect(after("2026-11-21T00:00:00Z", "0 0 29 2 *", "UTC", 1)).toEqual(["02-29T00:00"]);
});

test.each([
  "",
  "* * * *",
  "* * * * * *",
  "60 * * * *",
  "* * 31 2 *",
  "@reboot",
  "@every 5s",
  "* *  * * *",
  "* * * * *\n",
  "soon * * * *",
  `${"1,".repeat(60)}1 * * * *`,
])("%p never occurs", (cron) => {
  expect(nextOccurrence(cron, "UTC", Date.parse("2026-11-21T00:00:00Z"))).toBeNull();
});

test("a zone is one of the tz database, written as it is there", () => {
  expect([canonicalTimezone("europe/berlin"), canonicalTimezone("utc")]).toEqual(["Europe/Berlin", "UTC"]);
  for (const name of ["", "Mars/Olympus", "+02:00", "Europe/Berlin ", "a".repeat(65)]) {
    expect({ name, zone: canonicalTimezone(name) }).toEqual({ name, zone: null });
  }
});
