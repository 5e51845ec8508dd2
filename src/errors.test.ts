import { expect, test } from "bun:test";
import { AppError, asAppError, errorKinds, messageOf } from "./errors.ts";

test("every code is snake_case, has a title, and a status that agrees with what the caller may do", () => {
  for (const [code, { status, title, retry }] of Object.entries(errorKinds)) {
    expect(code).toMatch(/^[a-z]+(_[a-z0-9]+)*$/);
    expect(title).toMatch(/^[A-Z].*[^.]$/);
    if (status !== 0) expect(status >= 400 && status < 600).toBe(true);
    // The one that waits for the operator, not for time.
    const retryOfOurs = code === "upstream_unauthorized" ? "never" : "later";
    if (status >= 500) expect({ code, retry }).toEqual({ code, retry: retryOfOurs });
    if (status === 422 || status === 404) expect({ code, retry }).toEqual({ code, retry: "never" });
  }
});

test("an AppError keeps its code, fields, cause and wait", () => {
  const cause = new Error("below");
  const fields = [{ path: "/input", message: "is missing" }];
  const error = new AppError("queue_full", "no room", { cause, fields, retryAfterS: 5 });
  expect(error).toMatchObject({
    name: "AppError",
    code: "queue_full",
    message: "no room",
    fields,
    retryAfterS: 5,
    cause,
  });
  const bare = new AppError("internal", "broken");
  expect(bare).toMatchObject({ fields: [], retryAfterS: undefined });
  expect("cause" in bare).toBe(false);
});

test("asAppError goes by shape, so that another copy of the class is recognised", () => {
  class Copy extends Error {
    override readonly name = "AppError";
    readonly code = "queue_full";
  }
  const copy = new Copy("no room");
  expect(asAppError(copy)).toBe(copy as unknown as AppError);
});

test.each([
  ["an Error", new Error("x")],
  ["an Error with one of our codes", Object.assign(new Error("x"), { code: "queue_full" })],
  ["an AppError with an unknown code", Object.assign(new Error("x"), { name: "AppError", code: "nonsense" })],
  ["an AppError whose code every object has", Object.assign(new Error("x"), { name: "AppError", code: "toString" })],
  ["an object that looks like one", { name: "AppError", code: "queue_full", message: "x" }],
  ["nothing", undefined],
])("asAppError(%s) is null", (_, value) => {
  expect(asAppError(value)).toBeNull();
});

test("messageOf reads anything that can be thrown", () => {
  expect(messageOf(new TypeError("wrong"))).toBe("wrong");
  expect(messageOf("text")).toBe("text");
  expect(messageOf(null)).toBe("null");
  expect(messageOf({ a: 1 })).toBe("[object Object]");
});
