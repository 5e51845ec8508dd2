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

describe("what a model's client throws", () => {
  const thrown = (status: number | undefined, message: string, code?: string) =>
    Object.assign(new Error(`${status} ${message}`), {
      status,
      requestID: null,
      headers: new Headers(code ? { "x-millrace-code": code } : {}),
      error: { message, code: "rate_limited" },
    });

  test("has our code where we have refused it, and follows the table", () => {
    expect(failure(thrown(429, "full", "model_overloaded"))).toEqual({
      code: "model_overloaded",
      message: "full",
      stage: "infer",
      retryable: true,
    });
    expect(failure(thrown(404, "none", "unknown_model"))).toMatchObject({ code: "unknown_model", retryable: false });
    expect(failure(thrown(422, "n", "invalid_request"))).toMatchObject({ code: "invalid_input", retryable: false });
  });

  test("may be waited for where no server has begun, and for as long as a full one asks", () => {
    const waitOf = (error: unknown) => failureOf(error, "infer", false).wait;
    const full = thrown(429, "full", "model_overloaded");
    expect(waitOf(full)).toEqual({ retryAfterMs: 0 });
    full.headers.set("retry-after", "7");
    expect(waitOf(full)).toEqual({ retryAfterMs: 7_000 });
    const away = thrown(503, "away", "model_unavailable");
    away.headers.set("retry-after", "5"); // nobody knows
    expect(waitOf(away)).toEqual({ retryAfterMs: 0 });
    expect(waitOf(new AppError("model_overloaded", "full", { retryAfterS: 2 }))).toEqual({ retryAfterMs: 2_000 });
    const begun = [thrown(502, "failed", "upstream_failed"), thrown(504, "slow", "upstream_timeout"), thrown(503, "n")];
    const others = [new RunnerError("model_unavailable", "a plugin's own"), new Error("boom"), thrown(400, "no")];
    for (const error of [...begun, ...others]) expect(waitOf(error)).toBeNull();
    expect(failureOf(full, "infer", true).wait).toBeNull();
  });

  test("is the input's fault where the server refused it, whatever code it made up", () => {
    const message = "too long, see https://10.0.0.1:8000/help and /srv/vllm/model.py";
    expect(failure(thrown(400, message))).toEqual({
      code: "invalid_input",
      message: "The model server refused the request: too long, see <url> and <path>",
      stage: "infer",
      retryable: false,
    });
    expect(failure(thrown(400, "n", "no_such_code"))).toMatchObject({ code: "invalid_input", retryable: false });
  });

  test("is worth another attempt where the server failed", () => {
    for (const status of [500, undefined]) {
      expect(failure(thrown(status, "secret"))).toMatchObject({ code: "upstream_failed", retryable: true });
      expect(failure(thrown(status, "secret")).message).not.toContain("secret");
    }
  });
});
