// docs/errors.md is the client's list of error codes: it names every code of src/errors.ts once, with the status and the
// advice that the table has.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errorKinds } from "../src/errors.ts";

const text = readFileSync(join(import.meta.dir, "../docs/errors.md"), "utf8");

/** The rows of the table under a heading, cells trimmed, without the back-ticks of the code. */
function rowsUnder(heading: string): string[][] {
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
  const lines = section.split("\n").filter((line) => line.startsWith("| `"));
  return lines.map((line) => {
    const cells = line.slice(1, -1).split(" | ");
    return cells.map((cell) => cell.trim().replace(/^`(\w+)`$/, "$1"));
  });
}

const requests = rowsUnder("Requests");
const ends = rowsUnder("Ends of tasks");
const startUp = rowsUnder("Starting up");

test("every code stands on the page, once, in the order of the table", () => {
  const codes = [...requests, ...ends, ...startUp].map(([code]) => code);
  expect(codes).toEqual(Object.keys(errorKinds));
});

test("codes of requests have the status and the advice of the table", () => {
  const listed = requests.map(([code, status, repeat]) => ({ code, status, repeat }));
  const served = Object.entries(errorKinds).filter(([, { status }]) => status > 0);
  expect(listed).toEqual(served.map(([code, { status, retry }]) => ({ code, status: String(status), repeat: retry })));
});

test("codes of ended tasks say whether there is another attempt", () => {
  const retries = new Map<string, string>(Object.entries(errorKinds).map(([code, { retry }]) => [code, retry]));
  const listed = ends.map(([code = "", again]) => `${code}: ${again}`);
  expect(listed).toEqual(ends.map(([code = ""]) => `${code}: ${retries.get(code) === "never" ? "no" : "yes"}`));
});

test("every row says what a code means and what to do", () => {
  const widths = { requests: 5, ends: 4, startUp: 3 };
  const rows = { requests, ends, startUp };
  for (const name of ["requests", "ends", "startUp"] as const) {
    const short = rows[name].filter((row) => row.length !== widths[name] || row.some((cell) => cell.length < 2));
    expect(short).toEqual([]);
  }
});
