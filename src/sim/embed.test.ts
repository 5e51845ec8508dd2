import { expect, test } from "bun:test";
import { EMBEDDING_DIMENSIONS_MAX, embed } from "./embed.ts";

const nearness = (a: string, b: string, dimensions = 384): number => {
  const [one, other] = [embed(a, dimensions), embed(b, dimensions)];
  return one.reduce((sum, value, index) => sum + value * (other[index] ?? 0), 0);
};

test("vectors have length 1, also of nothing and of one dimension", () => {
  for (const text of ["How are you?", "", "…", "胸口疼", "x".repeat(5000)]) {
    for (const dimensions of [1, 7, 384, 4096]) {
      const vector = embed(text, dimensions);
      expect(vector.length).toBe(dimensions);
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    }
  }
  expect(() => embed("x", 0)).toThrow(RangeError);
  expect(() => embed("x", EMBEDDING_DIMENSIONS_MAX + 1)).toThrow(RangeError);
});

test("the same text has the same vector, of every process", () => {
  expect(embed("A red fox", 64)).toEqual(embed("A red fox", 64));
  expect([...embed("A red fox", 4)].map((value) => Number(value.toFixed(4)))).toEqual([0.6156, -0.7665, -0.18, 0.0334]);
});

test.each([
  ["How do I reset my password?", "I forgot my password and want to reset it", "The river floods every spring"],
  ["My head hurts", "I have a headache", "Please cancel my order"],
  ["Wie setze ich mein Passwort zurück?", "Passwort vergessen, bitte zurücksetzen", "Der Fluss steigt im Frühling"],
  ["胸口疼三天了", "三天来胸口一直疼", "今天天气很好"],
  ["비밀번호를 재설정하고 싶어요", "비밀번호 재설정 방법", "오늘 날씨가 좋네요"],
])("%s is nearer to its paraphrase than to another matter", (text, paraphrase, other) => {
  expect(nearness(text, paraphrase)).toBeGreaterThan(nearness(text, other) + 0.2);
});

test("a negation is near, and not the same", () => {
  const both = nearness("Turn on dark mode", "Do not turn on dark mode");
  expect(both).toBeLessThan(0.95);
  expect(both).toBeGreaterThan(0.4);
  expect(nearness("The dog bites the man", "The man bites the dog")).toBeLessThan(0.995);
});
