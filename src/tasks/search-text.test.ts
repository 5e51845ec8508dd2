import { expect, test } from "bun:test";
import { searchText, searchWords } from "./search-text.ts";

test("the values of an input, without the names of its fields, in lower case and with single spaces", () => {
  const input = { title: "  Grüße\n\n an ALLE", list: [1.5, true, null, { deep: "İstanbul" }] };
  expect(searchText(input)).toBe(` grüße an alle 1.5 ${"İstanbul".toLowerCase()}`);
  expect(searchText(undefined)).toBe("");
  expect(searchText({})).toBe("");
});

test("at most 4,000 characters, whole ones, and none that a database refuses", () => {
  const long = searchText({ a: "x".repeat(3_990), b: `🚂${"🚂".repeat(100)}`, c: "never" });
  expect(long.length).toBe(4_000);
  expect(long.isWellFormed()).toBe(true);
  expect(long).not.toContain("never");
  expect(searchText("\ud800 a\u0000b")).toBe("\ufffd a b");
  // A character may become two in lower case.
  expect(searchText("İ".repeat(4_000)).length).toBe(4_000);
});

test("a query is words, as they stand in a text", () => {
  expect(searchWords("  Two\tWÖRDS ")).toEqual(["two", "wörds"]);
  expect(searchWords(" \n")).toEqual([]);
});
