import { expect, test } from "bun:test";
import { Type as t } from "@sinclair/typebox";
import { file, fileFields, fileOutput, isFileOutput, publishedOutput, splitFiles, withKeys } from "./file.ts";

const plain = (schema: object): Record<string, unknown> => JSON.parse(JSON.stringify(schema));
const png = fileOutput(new Uint8Array([1]), "image/png");
const output = plain(t.Object({ image: file("image/png"), size: t.Integer(), mask: t.Optional(file("image/*")) }));

test("the first file becomes s3_key, others keep their names", () => {
  const fields = fileFields(output);
  expect(fields.map((field) => field.resultName)).toEqual(["s3_key", "mask"]);
  const published = publishedOutput(output, fields);
  expect(Object.keys(published.properties as object)).toEqual(["s3_key", "mask", "size"]);
  expect(published.required).toEqual(["s3_key", "size"]);
  expect(JSON.stringify(published)).not.toContain("x-millrace-file");

  const split = splitFiles({ image: png, size: 3, mask: png }, fields);
  expect(split.output).toEqual({ size: 3 });
  const stored = split.files.map(({ path }, i) => ({ path, key: `results/${i}` }));
  expect(withKeys(split.output, stored)).toEqual({ s3_key: "results/0", mask: "results/1", size: 3 });
});

test("an optional file may be missing", () => {
  expect(splitFiles({ image: png, size: 3 }, fileFields(output)).files).toEqual([{ path: "/s3_key", file: png }]);
});

test("the whole output may be a file", () => {
  const fields = fileFields(plain(file("text/plain")));
  expect(splitFiles(png, fields)).toEqual({ output: {}, files: [{ path: "/s3_key", file: png }] });
  expect(publishedOutput({}, fields)).toMatchObject({ type: "object", required: ["s3_key"] });
});

test("files elsewhere, and a second s3_key, are refused", () => {
  const refused = expect.objectContaining({ code: "invalid_runner" });
  expect(() => fileFields(plain(t.Object({ pages: t.Array(file("image/png")) })))).toThrow(refused);
  expect(() => fileFields(plain(t.Object({ image: file("image/png"), s3_key: t.String() })))).toThrow(refused);
  expect(() => file("png")).toThrow(refused);
});

test("a file has bytes and the declared type", () => {
  expect(isFileOutput(png, "image/png")).toBe(true);
  expect(isFileOutput(png, "image/*")).toBe(true);
  expect(isFileOutput(png, "image/jpeg")).toBe(false);
  expect(isFileOutput({ bytes: "x", contentType: "image/png" }, "image/png")).toBe(false);
  expect(() => fileOutput(new Uint8Array(), "image/png\r\nx: y")).toThrow("media type");
});
