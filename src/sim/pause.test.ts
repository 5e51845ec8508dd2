// Waiting that ends with whoever waits.
import { expect, test } from "bun:test";
import { pause } from "./pause.ts";

test("a pause is as long as it says, and ends when it is given up", async () => {
  const waiting = new AbortController();
  const begun = performance.now();
  await pause(20, waiting.signal);
  expect(performance.now() - begun).toBeGreaterThan(19);
  const pauses = [pause(3_600_000, waiting.signal), pause(Number.POSITIVE_INFINITY, waiting.signal)];
  waiting.abort();
  await Promise.all(pauses);
  await pause(3_600_000, waiting.signal);
  expect(performance.now() - begun).toBeLessThan(5_000);
});
