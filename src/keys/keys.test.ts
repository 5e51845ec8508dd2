import { expect, test } from "bun:test";
import { createKeys } from "./keys.ts";

const keys = createKeys([
  { id: "alice", secret: "alpha-secret" },
  { id: "bob", secret: "beta-secret" },
]);

test("a known key names its owner", () => {
  expect(keys.authenticate("alpha-secret")).toEqual({ keyId: "alice" });
  expect(keys.authenticate("beta-secret")).toEqual({ keyId: "bob" });
});

test("anything else has no owner", () => {
  for (const presented of ["", "alpha", "alpha-secret ", "ALPHA-SECRET", "alice", "x".repeat(100_000)]) {
    expect(keys.authenticate(presented)).toBeNull();
  }
});

test("the first of two names with one secret owns it", () => {
  const shared = createKeys([
    { id: "first", secret: "same" },
    { id: "second", secret: "same" },
  ]);
  expect(shared.authenticate("same")).toEqual({ keyId: "first" });
});
