import { expect, test } from "bun:test";
import { createBatcher } from "./batch.ts";

interface Call {
  readonly items: readonly number[];
  readonly answer: (answers: readonly string[]) => void;
  readonly fail: (error: Error) => void;
}

/** A batcher whose batches the test answers itself. */
function harness(max: number, waitMs: number) {
  const calls: Call[] = [];
  const arrivals: (() => void)[] = [];
  const batcher = createBatcher<number, { signal: AbortSignal }, string>({ max, waitMs }, (items) => {
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    calls.push({ items, answer: resolve, fail: reject });
    for (const arrive of arrivals.splice(0)) arrive();
    return promise;
  });
  const call = async (index: number): Promise<Call> => {
    for (;;) {
      const found = calls[index];
      if (found) return found;
      await new Promise<void>((resolve) => arrivals.push(resolve));
    }
  };
  const add = (item: number, signal = new AbortController().signal) => batcher.add(item, { signal });
  return { add, call, calls };
}

const answersFor = (items: readonly number[]): string[] => items.map((item) => `answer ${item}`);

test("a full batch starts at once, in order; the rest waits for its end", async () => {
  const { add, call, calls } = harness(2, 60_000);
  const answers = [add(1), add(2), add(3)];
  const first = await call(0);
  expect(first.items).toEqual([1, 2]);
  expect(calls).toHaveLength(1);
  first.answer(answersFor(first.items));
  const second = await call(1);
  expect(second.items).toEqual([3]);
  second.answer(answersFor(second.items));
  expect(await Promise.all(answers)).toEqual(["answer 1", "answer 2", "answer 3"]);
});

test("one batch runs at a time, however many are full", async () => {
  const { add, call, calls } = harness(1, 0);
  const answers = [add(1), add(2)];
  const first = await call(0);
  expect(calls).toHaveLength(1);
  first.answer(["one"]);
  (await call(1)).answer(["two"]);
  expect(await Promise.all(answers)).toEqual(["one", "two"]);
});

test("an incomplete batch starts after waitMs", async () => {
  const { add, call } = harness(10, 1);
  const answer = add(1);
  const only = await call(0);
  only.answer(["x"]);
  expect(await answer).toBe("x");
});

test("a wrong number of answers and a throw fail all", async () => {
  const { add, call } = harness(2, 0);
  const short = [add(1), add(2)];
  (await call(0)).answer(["one"]);
  for (const result of await Promise.allSettled(short)) {
    expect(result).toMatchObject({ status: "rejected", reason: { code: "runner_failed" } });
  }
  const thrown = [add(3), add(4)];
  (await call(1)).fail(new Error("out of memory"));
  for (const result of await Promise.allSettled(thrown)) expect(result.status).toBe("rejected");
});

test("one that leaves while waiting is not run", async () => {
  const { add, call } = harness(2, 60_000);
  const leaver = new AbortController();
  const left = add(1, leaver.signal);
  leaver.abort(new Error("cancelled"));
  expect(await left.catch((error: Error) => error.message)).toBe("cancelled");
  const others = [add(2), add(3)];
  const batch = await call(0);
  expect(batch.items).toEqual([2, 3]);
  batch.answer(answersFor(batch.items));
  expect(await Promise.all(others)).toEqual(["answer 2", "answer 3"]);
});

test("one that leaves a running batch goes at once, the others get their answers", async () => {
  const { add, call } = harness(2, 60_000);
  const leaver = new AbortController();
  const left = add(1, leaver.signal);
  const stays = add(2);
  const batch = await call(0);
  leaver.abort(new Error("cancelled"));
  expect(await left.catch((error: Error) => error.message)).toBe("cancelled");
  batch.answer(answersFor(batch.items));
  expect(await stays).toBe("answer 2");
});

test("a batch that throws because one left runs again without it", async () => {
  const { add, call } = harness(3, 60_000);
  const leaver = new AbortController();
  const left = add(1, leaver.signal);
  const stay = [add(2), add(3)];
  const batch = await call(0);
  leaver.abort();
  batch.fail(new Error("aborted"));
  expect((await Promise.allSettled([left]))[0]?.status).toBe("rejected");
  const again = await call(1);
  expect(again.items).toEqual([2, 3]);
  again.answer(answersFor(again.items));
  expect(await Promise.all(stay)).toEqual(["answer 2", "answer 3"]);
});

test("the last one of a batch stays until the batch has ended", async () => {
  const { add, call } = harness(1, 0);
  const leaver = new AbortController();
  const answer = add(1, leaver.signal);
  const batch = await call(0);
  leaver.abort();
  batch.answer(["finished"]);
  expect(await answer).toBe("finished");
});
