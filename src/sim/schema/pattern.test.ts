import { expect, test } from "bun:test";
import { createRng } from "../rng.ts";
import { PatternError, parsePattern } from "./pattern.ts";

const patterns = [
  "^[A-Z]{3}-\\d{2,4}$",
  "(yes|no|maybe)",
  "\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}",
  "[^aeiou\\s]+",
  "\\(\\d{3}\\) \\d{3}-\\d{4}",
  "(?:a|b)*c?",
  "(?P<year>\\d{4})",
  "(?<day>[0-3]\\d)",
  "\\p{Lu}\\p{Ll}+",
  "[\\u4e00-\\u9fa5]{2,4}",
  "\\x41\\u0042",
  "a{0}b",
  "x|",
  "[\\w.-]+@[\\w-]+\\.com",
  "[]a]",
  "[a\\]]",
  "\\.\\*\\$",
];

test.each(patterns)("what is drawn for %s matches it", (source) => {
  if (source === "[]a]") {
    expect(() => parsePattern(source)).toThrow(PatternError);
    return;
  }
  const pattern = parsePattern(source);
  for (let seed = 0; seed < 30; seed++) {
    const text = pattern.draw(createRng(`${seed}`), { min: 3 * (seed % 4), max: 30 });
    expect(pattern.matches(text, true)).toBe(true);
    const engine = new RegExp(`^(?:${source.replace("?P<", "?<")})$`, "u");
    expect(engine.test(text), `${source} ${text}`).toBe(true);
  }
});

test.each([
  ["^[a-f0-9]+$", 8, 8],
  ["^\\w+@\\w+\\.(com|org)$", 30, 30],
  ["^(ab|cde)*x?$", 40, 41],
  ["^[a-z]*[0-9]{2,}[a-z]*$", 100, 100],
])("%s fits into %d to %d characters", (source, min, max) => {
  for (let seed = 0; seed < 30; seed++) {
    const text = parsePattern(source).draw(createRng(`${seed}`), { min, max });
    expect(text.length).toBeWithin(min, max + 1);
    expect(new RegExp(source).test(text), text).toBe(true);
  }
});

test("matching agrees with the engine on what does not match", () => {
  for (const [source, text] of [
    ["^a+$", "aab"],
    ["^(ab|c){2,3}$", "abcabc"],
    ["^.$", "\n"],
    ["^\\D+$", "a1"],
    ["b$", "bc"],
  ] as const) {
    expect(parsePattern(source).matches(text, false)).toBe(new RegExp(source, "u").test(text));
  }
});

test("patterns that trap a backtracking engine are matched at once", () => {
  const startedAt = performance.now();
  for (const source of ["^(a+)+$", "^(a|a)*$", "^(.*)*x$"]) {
    expect(parsePattern(source).matches(`${"a".repeat(200)}!`, true)).toBe(false);
  }
  expect(performance.now() - startedAt).toBeLessThan(1000);
});

test.each([
  "(?=a)",
  "(?!a)",
  "(?<=a)b",
  "(?i)a",
  "(a)\\1",
  "\\bword\\b",
  "a**",
  "(",
  ")",
  "[a",
  "*",
  "a{3,2}",
  "x{99999}",
  "\\",
])("%s is refused", (source) => {
  expect(() => parsePattern(source)).toThrow(PatternError);
});

test("counts that multiply are refused", () => {
  expect(() => parsePattern("((a{999}){999}){999}")).toThrow(PatternError);
  expect(() => parsePattern("((a?){9999}){9999}")).toThrow(PatternError);
});
