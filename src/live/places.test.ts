import { expect, test } from "bun:test";
import fc from "fast-check";
import { randomNumbers } from "../../tests/random-numbers.ts";
import { createPlaces, PRESSED_MS, type Taken } from "./places.ts";

function startPlaces(max: number) {
  const time = { ms: 0 };
  const places = createPlaces({ monotonicMs: () => time.ms });
  return {
    time,
    places,
    take: (key: string): Taken => places.take("m", max, key),
    leave: (key: string): void => places.leave("m", key),
    /** How many of `count` it gets. */
    many: (key: string, count: number): number =>
      Array.from({ length: count }, () => places.take("m", max, key)).filter((taken) => taken === "taken").length,
  };
}

test("a key that is alone gets every place, again and again", () => {
  const { many, take, leave } = startPlaces(32);
  expect(many("a", 100)).toBe(32);
  leave("a");
  expect(take("a")).toBe("taken");
  expect(take("a")).toBe("full");
});

test("where another key found no room, the next place is kept for it", () => {
  const { many, take, leave } = startPlaces(32);
  many("a", 32);
  expect(take("b")).toBe("full");
  for (let i = 0; i < 2; i++) {
    leave("a");
    expect(take("a")).toBe("share");
    expect(take("b")).toBe("taken");
  }
});

test("a key that waits no more holds nobody back: after ten seconds, or when all is free", () => {
  const { many, take, leave, time, places } = startPlaces(4);
  many("a", 4);
  take("b");
  leave("a");
  expect(take("a")).toBe("share");
  time.ms = PRESSED_MS;
  expect(take("a")).toBe("taken");
  take("b");
  for (let i = 0; i < 4; i++) leave("a");
  expect([many("a", 5), places.inFlight.get("m")]).toEqual([4, 4]);
});

test("who holds less than a share is not held back by those who wait", () => {
  const { many, take, leave } = startPlaces(30);
  many("a", 28);
  many("b", 2);
  expect([take("a"), take("c")]).toEqual(["full", "full"]);
  leave("a");
  expect([take("a"), take("b")]).toEqual(["share", "taken"]);
});

test("servers that are full before the gateway's limit press as well", () => {
  const { many, take, leave, places } = startPlaces(2_048);
  many("a", 100);
  take("b"); // and its server refuses it
  leave("b");
  places.refused("m", "b");
  expect(take("a")).toBe("share");
  for (let i = 0; i < 7; i++) leave("a");
  expect(take("b")).toBe("taken");
  expect(take("a")).toBe("share");
});

test("keys that all want everything get near to equal shares, whoever comes first each time", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 6 }), fc.integer({ min: 64, max: 256 }), fc.nat(), (keys, max, seed) => {
      const { below } = randomNumbers(seed);
      const { many, take, leave, time, places } = startPlaces(max);
      const calls = Array.from({ length: many("0", max) }, () => 0);
      for (let step = 0; step < 20 * max; step++) {
        time.ms += 10;
        const [ended = 0] = calls.splice(below(calls.length), 1);
        leave(String(ended));
        for (let key = 0; key < keys; key++) {
          if (take(String(key)) === "taken") calls.push(key);
        }
      }
      const shares = Array.from({ length: keys }, (_, key) => calls.filter((one) => one === key).length);
      expect(Math.min(...shares)).toBeGreaterThan(max / keys / 2);
      expect(Math.max(...shares)).toBeLessThan((max / keys) * 2);
      expect(places.inFlight.get("m")).toBe(calls.length);
    }),
    { numRuns: 20 },
  );
});
