// What counts as a second signal. The signals are only announced within this process; none is sent.
import { expect, test } from "bun:test";
import { listenForSignals } from "./signals.ts";

test("the same signal heard twice at once is one, a later one ends at once", async () => {
  let nowMs = 1_000;
  await using signals = listenForSignals({ monotonicMs: () => nowMs });
  process.emit("SIGINT", "SIGINT");
  expect(await signals.asked).toBe(null);
  nowMs += 499;
  process.emit("SIGINT", "SIGINT");
  expect(signals.force.aborted).toBe(false);
  nowMs += 1;
  process.emit("SIGINT", "SIGINT");
  expect(signals.force.aborted).toBe(true);
});

test("another signal ends at once, and afterwards nobody listens", async () => {
  const before = process.listenerCount("SIGTERM");
  {
    await using signals = listenForSignals({ monotonicMs: () => 0 });
    process.emit("SIGINT", "SIGINT");
    process.emit("SIGTERM", "SIGTERM");
    expect(signals.force.aborted).toBe(true);
  }
  expect(process.listenerCount("SIGTERM")).toBe(before);
});
