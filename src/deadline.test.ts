import { expect, test } from "bun:test";
import { getEventListeners } from "node:events";
import { withDeadline } from "./deadline.ts";

const late = (): Error => new Error("late");
const never = new Promise<never>(() => {});

test("what takes too long is given up, and nothing is left of the wait", async () => {
  const abort = new AbortController();
  for (let i = 0; i < 20; i++) expect(await withDeadline(Promise.resolve(i), 1_000, late, abort.signal)).toBe(i);
  expect(getEventListeners(abort.signal, "abort")).toHaveLength(0);
  expect(await withDeadline("no promise", 1_000, late)).toBe("no promise");
  await expect(withDeadline(never, 1, late)).rejects.toThrow("late");
  await expect(withDeadline(Promise.reject(new Error("failed")), 1_000, late)).rejects.toThrow("failed");
});

test("a signal that aborts ends the wait, also one that had aborted before", async () => {
  const abort = new AbortController();
  const waiting = withDeadline(never, 1_000, late, abort.signal);
  abort.abort(new Error("gone"));
  await expect(waiting).rejects.toThrow("gone");
  await expect(withDeadline(never, 1_000, late, abort.signal)).rejects.toThrow("gone");
});
