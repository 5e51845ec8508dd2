import { describe, expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import { RunnerError } from "./define.ts";
import { failureOf } from "./failure.ts";

const failure = (error: unknown, aborted = false) => failureOf(error, "infer", aborted).failure;

test("a runner's own error keeps its code", () => {
  expect(failure(new RunnerError("no_face", "No face found", { retryable: false }))).toEqual({
    code: "no_face",
    message: "No face found",
    stage: "infer",
    retryable: false,
  });
  expect(failure(new RunnerError("busy", "Busy")).retryable).toBe(true);
});

test("ours follow the table", () => {
  expect(failure(new AppError("fetch_blocked", "blocked"))).toMatchObject({ code: "fetch_blocked", retryable: false });
  expect(failure(new AppError("fetch_failed", "failed"))).toMatchObject({ code: "fetch_failed", retryable: true });
});

test("an abort is one, whatever was thrown", () => {
  expect(failure(new RunnerError("no_face", "x", { retryable: false }), true).code).toBe("aborted");
});

describe("anything else is runner_failed, worth another attempt", () => {
  for (const thrown of [
    new Error("boom"),
    "boom",
    new RunnerError("aborted", "boom"),
    new RunnerError("Not Snake", "boom"),
  ]) {
    test(String(thrown), () => {
      expect(failure(thrown)).toEqual({ code: "runner_failed", message: "boom", stage: "infer", retryable: true });
      expect(failureOf(thrown, "infer", false).known).toBe(false);
    });
  }
  test("even what cannot be read", () => {
    expect(failure(undefined).message).toBe("undefined");
    expect(failure(new Error("")).message).toBe("The runner threw without a message");
  });
});

describe("texts that leave the process", () => {
  const cases: readonly [string, string][] = [
    ["ENOENT: no such file, open '/home/me/models/x.bin'", "ENOENT: no such file, open '<path>'"],
    ["cannot load file:///home/me/x.ts:3:4", "cannot load <path>"],
    ["C:\\models\\secret\\x.bin is missing", "<path> is missing"],
    ["first line\n    at run (/srv/app/x.ts:1:2)", "first line"],
    ["1/2 of the shape [3, 4] at https://example.com/a/b", "1/2 of the shape [3, 4] at https://example.com/a/b"],
  ];
  for (const [thrown, shown] of cases) {
    test(thrown.split("\n", 1)[0] ?? "", () => expect(failure(new Error(thrown)).message).toBe(shown));
  }
  test("are short", () => {
    expect(failure(new Error("x".repeat(100_000))).message).toHaveLength(500);
    expect(failure(new RunnerError("long", "x".repeat(100_000))).message).toHaveLength(500);
  });
});
