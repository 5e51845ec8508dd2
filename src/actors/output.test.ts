import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { codeOf } from "../../tests/code-of.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { patterned, sha256 } from "../blobs/conformance.ts";
import { folderBlobs } from "../blobs/folder.ts";
import { AppError } from "../errors.ts";
import type { Execution } from "../registry/stages.ts";
import { INLINE_RESULT_BYTES_MAX } from "../tasks/records.ts";
import { storeOutput } from "./output.ts";

let folder = "";
let blobs: Blobs;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace output "));
  blobs = folderBlobs(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Done = Extract<Execution, { ok: true }>;
const timing = { prepareMs: 0, inferMs: 0, postprocessMs: 0 };
const done = (output: unknown, files: Done["files"] = []): Done => ({
  ok: true,
  output,
  json: JSON.stringify(output),
  files,
  timing,
});
const file = (path: string, bytes: Uint8Array, contentType = "image/png"): Done["files"][number] =>
  ({ path, file: { bytes, contentType } }) as Done["files"][number];
const signal = new AbortController().signal;
const taskId = "01arz3ndektsv4rrffq69g5fav";
const store = (execution: Done, fence: string, into = blobs) => storeOutput(into, taskId, fence, execution, signal);

describe("storeOutput", () => {
  test("a small JSON result travels in the record as it is, and nothing is stored", async () => {
    const execution = done({ text: "hällo", n: [1, 2] });
    expect(await store(execution, "f1")).toEqual({ resultJson: execution.json, keys: [] });
    expect(await readdir(folder)).toEqual([]);
  });

  test("at 64 KiB it travels, one byte more becomes an object; bytes are counted, not characters", async () => {
    const fits = done("x".repeat(INLINE_RESULT_BYTES_MAX - 2));
    expect((await store(fits, "f2")).keys).toEqual([]);
    for (const large of [
      done("x".repeat(INLINE_RESULT_BYTES_MAX - 1)),
      done("é".repeat(INLINE_RESULT_BYTES_MAX / 2)),
    ]) {
      const fence = sha256(Buffer.from(large.json)).slice(0, 8);
      const { resultJson, keys } = await store(large, fence);
      const key = `results/${taskId}-${fence}.json`;
      expect(keys).toEqual([key]);
      const bytes = Buffer.from(large.json);
      expect(JSON.parse(resultJson)).toEqual({
        s3_key: key,
        sha256: sha256(bytes),
        size_bytes: bytes.length,
        content_type: "application/json",
      });
      expect(Buffer.from(await blobs.read(key, 2 ** 20)).equals(bytes)).toBe(true);
    }
  });

  test("files are stored under keys with the fence, and named in the result; the first one is the result's", async () => {
    const [a, b] = [patterned(5_000, 1), patterned(70_000, 2)];
    const execution = done({ size: [4, 4] }, [file("/s3_key", a), file("/mask~1raw", b, "application/x-unknown")]);
    const { resultJson, keys } = await store(execution, "f3");
    expect(keys).toEqual([`results/${taskId}-f3.png`, `results/${taskId}-f3-2.bin`]);
    expect(JSON.parse(resultJson)).toEqual({
      s3_key: keys[0],
      "mask/raw": keys[1],
      size: [4, 4],
      sha256: sha256(a),
      size_bytes: 5_000,
      content_type: "image/png",
    });
    expect(sha256(await blobs.read(keys[1] ?? "", 2 ** 20))).toBe(sha256(b));
  });

  test("two attempts never share a key", async () => {
    const [one, two] = await Promise.all(
      ["fa", "fb"].map((fence) => store(done({}, [file("/s3_key", patterned(9))]), fence)),
    );
    expect(one?.keys).not.toEqual(two?.keys);
  });

  test("when the store fails in the middle, what this attempt had stored is taken back", async () => {
    const failing: Blobs = {
      ...blobs,
      put: (key, body, options) =>
        key.includes("-2.")
          ? Promise.reject(new AppError("storage_unavailable", "full"))
          : blobs.put(key, body, options),
    };
    const execution = done({}, [file("/s3_key", patterned(9)), file("/second", patterned(9))]);
    expect(await codeOf(store(execution, "f4", failing))).toBe("storage_unavailable");
    expect(await codeOf(blobs.read(`results/${taskId}-f4.png`, 100))).toBe("blob_not_found");
  });
});
