import { expect, test } from "bun:test";
import sharp from "sharp";
import { drawImage } from "./draw-image.ts";

test.each([
  [1024, 1024],
  [1792, 1024],
  [333, 77],
  [1, 1],
])("a decoder reads %d × %d", async (width, height) => {
  const bytes = drawImage("a red fox by the sea", { width, height, seed: "1" });
  const { info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
  expect({ width: info.width, height: info.height }).toEqual({ width, height });
  expect(bytes.length).toBeLessThan(200_000);
});

test("the same prompt and seed give the same bytes, another seed others", () => {
  const options = { width: 64, height: 64, seed: "a" };
  expect(drawImage("fox", options)).toEqual(drawImage("fox", options));
  expect(drawImage("fox", { ...options, seed: "b" })).not.toEqual(drawImage("fox", options));
  expect(drawImage("cat", options)).not.toEqual(drawImage("fox", options));
});

test("a colour that the prompt names is the ground", async () => {
  const { dominant } = await sharp(drawImage("all blue", { width: 64, height: 64, seed: "" })).stats();
  expect(dominant.b).toBeGreaterThan(dominant.r);
});

test("sizes without measure are refused", () => {
  expect(() => drawImage("x", { width: 5000, height: 10, seed: "" })).toThrow(RangeError);
  expect(() => drawImage("x", { width: 0, height: 10, seed: "" })).toThrow(RangeError);
});
