import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Candidate, chooseActor } from "./choose-actor.ts";

const actor = (seat: string, inFlight = 0): Candidate => ({ id: `${seat}-1`, seat, inFlight });
const idle = ["a", "b", "c", "d"].map((seat) => actor(seat));

test("nobody of nobody", () => {
  expect(chooseActor([], "prefix", 0.5)).toBeNull();
  expect(chooseActor([], "", 0.5)).toBeNull();
});

test("without a prefix the least busy; chance decides among equals", () => {
  expect(chooseActor([actor("a", 3), actor("b", 1), actor("c", 2)], "", 0.99)).toBe("b-1");
  const chosen = new Set([0, 0.3, 0.6, 0.9].map((random) => chooseActor(idle, "", random)));
  expect(chosen.size).toBe(4);
});

test("a prefix keeps its actor, also when that one starts again as another process", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (affinity, random) => {
      const first = chooseActor(idle, affinity, random);
      expect(chooseActor([...idle].reverse(), affinity, 1 - random - 0.001)).toBe(first);
      const again = idle.map((one) => ({ ...one, id: `${one.seat}-2` }));
      expect(chooseActor(again, affinity, random)?.[0]).toBe(first?.[0] as string);
    }),
  );
});

test("an actor that leaves moves its own prefixes alone, and all have a share", () => {
  const prefixes = Array.from({ length: 400 }, (_, i) => `conversation ${i}`);
  const before = prefixes.map((prefix) => chooseActor(idle, prefix, 0));
  const after = prefixes.map((prefix) => chooseActor(idle.slice(1), prefix, 0));
  const moved = before.filter((id, i) => id !== after[i]);
  expect(new Set(moved)).toEqual(new Set(["a-1"]));
  for (const { id } of idle) expect(before.filter((one) => one === id).length).toBeGreaterThan(50);
});

test("affinity gives way where the preferred has far more to do, by number and by ratio", () => {
  const prefix =
    Array.from({ length: 50 }, (_, i) => `p${i}`).find((text) => chooseActor(idle, text, 0) === "a-1") ?? "";
  const choose = (preferred: number, least: number): string | null =>
    chooseActor([actor("a", preferred), ...idle.slice(1).map((one) => ({ ...one, inFlight: least }))], prefix, 0);
  expect(choose(64, 0)).toBe("a-1");
  expect(choose(65, 0)).not.toBe("a-1");
  expect(choose(300, 200)).toBe("a-1");
  expect(choose(301, 200)).not.toBe("a-1");
});
