import { expect, test } from "bun:test";
import { silentLog } from "../log.ts";
import { forEachAtOnce, startRounds } from "./rounds.ts";

test("rounds follow one another, a failed one too, and stop waits for the one under way", async () => {
  const third = Promise.withResolvers<void>();
  const leave = Promise.withResolvers<void>();
  let begun = 0;
  let underWay = 0;
  let overlapped = false;
  const round = async (): Promise<number> => {
    overlapped ||= underWay++ > 0;
    begun++;
    if (begun === 3) {
      third.resolve();
      await leave.promise;
    }
    underWay--;
    if (begun === 1) throw new Error("the broker is away");
    return 0;
  };
  const rounds = startRounds({ name: "test", round, retryMs: 1, log: silentLog });
  await third.promise;
  let stopped = false;
  const stopping = rounds.stop().then(() => {
    stopped = true;
  });
  await Promise.resolve();
  expect(stopped).toBe(false);
  leave.resolve();
  await stopping;
  expect({ begun, overlapped }).toEqual({ begun: 3, overlapped: false });
});

test("one item that fails costs the others nothing, and is told when nothing is under way", async () => {
  const done: number[] = [];
  let atOnce = 0;
  let most = 0;
  const work = async (item: number): Promise<void> => {
    most = Math.max(most, ++atOnce);
    await Promise.resolve();
    atOnce--;
    if (item === 2) throw new Error("item 2");
    done.push(item);
  };
  const { signal } = new AbortController();
  await expect(forEachAtOnce([1, 2, 3, 4, 5, 6], 2, signal, work)).rejects.toThrow("item 2");
  expect({ done, most, atOnce }).toEqual({ done: [1, 3, 4, 5, 6], most: 2, atOnce: 0 });
  await forEachAtOnce([7], 2, AbortSignal.abort(), work);
  expect(done).not.toContain(7);
});
