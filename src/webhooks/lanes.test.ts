import { expect, test } from "bun:test";
import fc from "fast-check";
import { createLanes, IN_ALL_MAX, PER_HOST_MAX, PER_KEY_MAX } from "./lanes.ts";

const entry = fc.record({
  id: fc.uuid(),
  host: fc.constantFrom(...Array.from({ length: 20 }, (_, i) => `host-${i}`)),
  keyId: fc.constantFrom("a", "b", "c"),
});
const most = (names: readonly string[]): number =>
  Math.max(0, ...[...Map.groupBy(names, (name) => name).values()].map((same) => same.length));

test("no more than the limits enter, in order, and all of it is free again once they have left", () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 300 }), (due) => {
      const lanes = createLanes();
      const entered = lanes.enter(due);
      expect(entered.length).toBeLessThanOrEqual(IN_ALL_MAX);
      expect(most(entered.map(({ host }) => host))).toBeLessThanOrEqual(PER_HOST_MAX);
      expect(most(entered.map(({ keyId }) => keyId))).toBeLessThanOrEqual(PER_KEY_MAX);
      const ids = new Set(entered.map(({ id }) => id));
      expect(due.filter(({ id }) => ids.has(id)).map(({ id }) => id)).toEqual([...ids]);
      expect(lanes.room()).toBe(IN_ALL_MAX - entered.length);
      // Who was left out found a limit reached.
      for (const { host, keyId } of due.filter(({ id }) => !ids.has(id))) {
        const full = lanes.fullHosts().includes(host) || lanes.fullKeys().includes(keyId) || lanes.room() === 0;
        expect(full).toBe(true);
      }
      entered.forEach(lanes.leave);
      expect([lanes.room(), lanes.fullHosts(), lanes.fullKeys()]).toEqual([IN_ALL_MAX, [], []]);
    }),
  );
});

test("one host that fills its lane leaves room for all others", () => {
  const lanes = createLanes();
  const slow = Array.from({ length: 500 }, (_, i) => ({ id: `${i}`, host: "slow", keyId: "a" }));
  expect(lanes.enter(slow).length).toBe(PER_HOST_MAX);
  expect(lanes.enter([{ id: "x", host: "quick", keyId: "a" }]).length).toBe(1);
});
