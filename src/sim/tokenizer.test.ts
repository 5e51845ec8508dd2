import { expect, test } from "bun:test";
import fc from "fast-check";
import { detokenize, idOf, pieceOf, tokenize } from "./tokenizer.ts";

/** Any UTF-16, halves of surrogate pairs too: a client may send what no UTF-8 can hold. */
const anyText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 200 }),
  fc.string({ unit: "grapheme", maxLength: 200 }),
  fc.lorem({ maxCount: 40 }),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 60 }).map((units) => String.fromCharCode(...units)),
);

test("the pieces of a text, joined, are the text, and none is empty", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const pieces = tokenize(text);
      expect(pieces.join("")).toBe(text);
      expect(pieces).not.toContain("");
    }),
  );
});

test("ids hold their pieces, are whole numbers that JSON carries, and none is a special one", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const ids = tokenize(text).map(idOf);
      expect(detokenize(ids)).toBe(text);
      expect(ids.every((id) => Number.isSafeInteger(id) && id >= 256)).toBe(true);
    }),
  );
});

test("different pieces have different ids", () => {
  fc.assert(
    fc.property(anyText, anyText, (one, other) => {
      for (const left of tokenize(one)) {
        for (const right of tokenize(other)) expect(idOf(left) === idOf(right)).toBe(left === right);
      }
    }),
  );
});

test("the marks of a conversation have ids that no text has", () => {
  const picture = "<|1234567890|>";
  const ids = ["<|im_start|>", "<|im_end|>", picture].map(idOf);
  expect(ids.every((id) => id >= 0 && id < 256)).toBe(true);
  expect(new Set(ids).size).toBe(3);
  expect(idOf("<|another|>")).toBe(idOf(picture));
  expect(detokenize(ids)).toBe("<|im_start|><|im_end|><|media|>");
});

test("any number is a piece", () => {
  fc.assert(
    fc.property(fc.nat({ max: Number.MAX_SAFE_INTEGER }), (id) => {
      const piece = pieceOf(id);
      expect(piece === "\ufffd" || idOf(piece) === id).toBe(true);
      expect(piece).not.toBe("");
    }),
  );
});

test("a token is about four characters of English, and one of Chinese or less", () => {
  const english = "The miller opened the sluice, and the wheel began to turn; by noon all of the grain was flour. ";
  expect(english.length / tokenize(english).length).toBeWithin(3.3, 5);
  expect(tokenize("我发烧三天了").length).toBeWithin(3, 7);
  expect(tokenize(" a".repeat(1_000))).toHaveLength(1_000);
});

test("long runs are cut in linear time", () => {
  const begun = performance.now();
  for (const sign of ["a", " ", "é", "1", "!", "\n", "🙂"])
    expect(tokenize(sign.repeat(200_000)).join("")).toHaveLength(200_000 * sign.length);
  expect(performance.now() - begun).toBeLessThan(5_000);
});
