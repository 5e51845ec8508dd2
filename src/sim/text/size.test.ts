import { expect, test } from "bun:test";
import { composeAnswer } from "../answer.ts";
import type { ChatMessage } from "../chat-request.ts";
import { createRng } from "../rng.ts";

/** A hundred times what each takes; what grows with the square of the text takes longer by far. */
const TIME_MS_MAX = 5_000;
const CHARS = 200_000;

const word = (index: number): string =>
  `w${index.toString(36).replace(/\d/g, (digit) => "abcdefghij"[Number(digit)] ?? "")}x`;
const words = (count: number): string => Array.from({ length: count }, (_, index) => word(7 * index)).join(" ");
const sentences = Array.from({ length: 2_500 }, (_, index) => `The ${word(index)} is here.`).join(" ");

const long: Readonly<Record<string, readonly ChatMessage[]>> = {
  "one word again and again": [{ role: "user", content: "send ".repeat(CHARS / 5) }],
  "a word without an end": [{ role: "user", content: "a".repeat(CHARS) }],
  "a question of many words about many sentences": [
    { role: "system", content: sentences },
    { role: "user", content: words(CHARS / 8) },
  ],
};

test.each(Object.entries(long))("the engine does not wait for %s", (_, messages) => {
  const from = performance.now();
  composeAnswer({ messages }, createRng("seed"));
  expect(performance.now() - from).toBeLessThan(TIME_MS_MAX);
});
