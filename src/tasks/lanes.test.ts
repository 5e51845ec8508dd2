import { expect, test } from "bun:test";
import { silentLog } from "../log.ts";
import { createLanes, LANE_A_MAX } from "./lanes.ts";

/** Lanes over a read model that says what the test says, when the test lets it. */
function start() {
  const asked: string[] = [];
  const time = { now: 0 };
  let answer = Promise.withResolvers<number>();
  const lanes = createLanes({
    countOpen: (keyId) => {
      asked.push(keyId);
      return answer.promise;
    },
    clock: { now: () => time.now, monotonicMs: () => time.now },
    log: silentLog,
  });
  const times = (count: number, what: (keyId: string) => void, keyId = "alice"): void => {
    for (let i = 0; i < count; i++) what(keyId);
  };
  return {
    lanes,
    asked,
    time,
    accept: (count: number, keyId?: string) => times(count, lanes.accepted, keyId),
    end: (count: number, keyId?: string) => times(count, lanes.ended, keyId),
    async answer(open: number | Error): Promise<void> {
      const { promise, resolve, reject } = answer;
      answer = Promise.withResolvers<number>();
      if (open instanceof Error) reject(open);
      else resolve(open);
      await promise.catch(() => {});
      await null;
    },
  };
}

test("a key's first hundred tasks travel in a, the others in b; those of another key in a", () => {
  const { lanes, accept, end } = start();
  accept(LANE_A_MAX - 1);
  expect(lanes.laneOf("alice")).toBe("a");
  accept(1);
  expect([lanes.laneOf("alice"), lanes.laneOf("bob")]).toEqual(["b", "a"]);
  end(1);
  expect(lanes.laneOf("alice")).toBe("a");
});

test("who is quick but never has many waiting stays in a", () => {
  const { lanes, accept, end } = start();
  for (let i = 0; i < 1_000; i++) {
    accept(10);
    end(10);
    expect(lanes.laneOf("alice")).toBe("a");
  }
});

test("what other gateways accepted counts from the next look on, and what happened during it as well", async () => {
  const { lanes, accept, end, answer } = start();
  accept(50);
  accept(5);
  await answer(99);
  expect(lanes.laneOf("alice")).toBe("b");
  end(5);
  expect(lanes.laneOf("alice")).toBe("a");
});

test("ends of what others accepted do not make credit", () => {
  const { lanes, accept, end } = start();
  accept(1);
  end(1_000);
  accept(LANE_A_MAX);
  expect(lanes.laneOf("alice")).toBe("b");
});

test("the read model is asked after fifty acceptances, once a second at most, and never for a key with few", async () => {
  const { asked, time, accept, answer } = start();
  accept(49);
  accept(49, "bob");
  expect(asked).toEqual([]);
  accept(1);
  accept(200);
  await answer(100);
  expect(asked).toEqual(["alice"]);
  time.now += 1_000;
  accept(1);
  expect(asked).toEqual(["alice", "alice"]);
  await answer(100);
});

test("a read model that does not answer changes nothing", async () => {
  const { lanes, accept, answer } = start();
  accept(LANE_A_MAX);
  await answer(new Error("gone"));
  expect(lanes.laneOf("alice")).toBe("b");
});
