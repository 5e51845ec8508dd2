import { expect, test } from "bun:test";
import { mayContinue, piecesOf, tokenCounter, tokensLeft, usageWith } from "./generation.ts";

test("a text of any length fits into deltas, whatever JSON makes of it", () => {
  for (const text of ["short", "\u0001".repeat(20_001), "😀".repeat(7_000), "ü".repeat(5_000)]) {
    const pieces = piecesOf(text);
    expect(pieces.join("")).toBe(text);
    for (const piece of pieces) {
      expect(Buffer.byteLength(JSON.stringify({ content: piece, tokens: 1 }))).toBeLessThan(32_768);
    }
  }
  for (const nothing of ["", null, undefined, 7]) expect(piecesOf(nothing)).toEqual([]);
});

test("the usage of an answer in two parts is that of one call", () => {
  const second = { prompt_tokens: 30, completion_tokens: 5 };
  expect(usageWith(second, 10)).toEqual({ prompt_tokens: 20, completion_tokens: 15, total_tokens: 35 });
  expect(usageWith(second, 0)).toEqual({ ...second, total_tokens: 35 });
  const nonsense = { prompt_tokens: "many", completion_tokens: -3 } as unknown as typeof second;
  expect(usageWith(nonsense, 2)).toEqual({ prompt_tokens: 0, completion_tokens: 2, total_tokens: 2 });
});

test("tokens are counted as the server says, else one a chunk", () => {
  const told = tokenCounter();
  expect([1, 4, 4].map((completion_tokens) => told({ completion_tokens }))).toEqual([1, 3, 0]);
  const untold = tokenCounter();
  expect([untold(null), untold(undefined)]).toEqual([1, 1]);
});

test("an answer is gone on with as long as something is left of it, and it has no form", () => {
  expect(mayContinue({}, 5)).toBe(true);
  expect(mayContinue({}, 0)).toBe(false);
  expect(mayContinue({ max_tokens: 5 }, 5)).toBe(false);
  expect(mayContinue({ max_tokens: 6, extra: { top_k: 3 } }, 5)).toBe(true);
  expect(mayContinue({ extra: { guided_json: {} } }, 5)).toBe(false);
  expect(tokensLeft({ max_tokens: 6 }, 5)).toEqual({ max_tokens: 1 });
  expect(tokensLeft({}, 5)).toEqual({});
});
