import { expect, test } from "bun:test";
import fc from "fast-check";
import { digestOf, isDamagedKey, keyIdIn, newKeyId, newKeyText } from "./key-text.ts";

test("a key has its form, names its id and its environment, and is stored as its digest", () => {
  const id = newKeyId();
  const { text, digest } = newKeyText("prod", id);
  expect(text).toMatch(/^mr_prod_[0-9a-hjkmnp-tv-z]{12}_[0-9A-Za-z]{38}$/);
  expect(keyIdIn(text)).toBe(id);
  expect(digest).toBe(new Bun.CryptoHasher("sha256").update(text).digest("hex"));
  expect(digestOf(text).toString("hex")).toBe(digest);
  expect(isDamagedKey(text)).toBe(false);
});

test("no two are alike, and every character is as likely as another", () => {
  const texts = Array.from({ length: 1_000 }, () => newKeyText("dev", newKeyId()).text);
  expect(new Set(texts).size).toBe(1_000);
  const secrets = texts.map((text) => text.slice(20, 52)).join("");
  expect(new Set(secrets).size).toBe(62);
  const digits = secrets.length - secrets.replaceAll(/[0-7]/g, "").length;
  expect(Math.abs(digits - (32_000 * 8) / 62)).toBeLessThan(420); // seven times its standard deviation
});

test("a key with one character changed, lost or swapped is known as damaged", () => {
  const { text } = newKeyText("dev", newKeyId());
  const body = text.slice("mr_dev_".length);
  fc.assert(
    fc.property(fc.nat(body.length - 1), fc.constantFrom(..."0aZ-_ "), (at, other) => {
      const changed = `mr_dev_${body.slice(0, at)}${other}${body.slice(at + 1)}`;
      expect(isDamagedKey(changed)).toBe(changed !== text);
      expect(isDamagedKey(text.slice(0, 7 + at))).toBe(true);
    }),
  );
});

test("what is no stored key names no id, and is not called damaged", () => {
  for (const text of ["", "dev-key", "mr_", "mr_test_x", "sk-abc", "x".repeat(500)]) {
    expect([keyIdIn(text), isDamagedKey(text)]).toEqual([null, false]);
  }
});
