import { expect, test } from "bun:test";
import fc from "fast-check";
import { ranked, withFallbacks } from "./plan.ts";

const key = fc.string({ maxLength: 40 });
const variants = fc
  .uniqueArray(fc.stringMatching(/^[a-z0-9-]{1,12}$/), { minLength: 1, maxLength: 8 })
  .chain((names) =>
    fc.tuple(...names.map((name) => fc.record({ name: fc.constant(name), weight: fc.nat({ max: 100 }) }))),
  );

test("a key is given every variant with a weight once, the same ones in the same order each time", () => {
  fc.assert(
    fc.property(variants, key, (all, sticky) => {
      const names = ranked("m", all, sticky).map(({ name }) => name);
      expect(names).toEqual(ranked("m", all.toReversed(), sticky).map(({ name }) => name));
      expect(names.toSorted()).toEqual(
        all
          .filter(({ weight }) => weight > 0)
          .map(({ name }) => name)
          .sort(),
      );
    }),
  );
});

test("moving the weight of one variant moves only keys that it gains or loses", () => {
  fc.assert(
    fc.property(variants, fc.nat(), fc.integer({ min: 1, max: 200 }), key, (all, index, weight, sticky) => {
      const moved = all[index % all.length] as (typeof all)[number];
      const others = (list: typeof all) =>
        ranked("m", list, sticky)
          .map(({ name }) => name)
          .filter((name) => name !== moved.name);
      const after = all.map((variant) => (variant === moved ? { ...variant, weight } : variant));
      expect(others(after)).toEqual(others(all)); // the rest keep their order among themselves
      if (weight < moved.weight) return;
      // With more weight it never falls behind one that it stood before.
      const place = (list: typeof all) => ranked("m", list, sticky).findIndex(({ name }) => name === moved.name);
      if (moved.weight > 0) expect(place(after)).toBeLessThanOrEqual(place(all));
    }),
  );
});

test("over many keys each variant has the share of its weight, also among what is left when the first is gone", () => {
  const all = [
    { name: "a", weight: 70 },
    { name: "b", weight: 20 },
    { name: "c", weight: 10 },
  ];
  const keys = 20_000;
  const first: Record<string, number> = {};
  const second: Record<string, number> = {};
  for (let i = 0; i < keys; i++) {
    const [one, two] = ranked("m", all, `user-${i}`);
    first[one?.name ?? ""] = (first[one?.name ?? ""] ?? 0) + 1;
    if (one?.name === "a") second[two?.name ?? ""] = (second[two?.name ?? ""] ?? 0) + 1;
  }
  // Five standard deviations of a binomial share.
  const near = (count: number | undefined, of: number, share: number) =>
    expect(Math.abs((count ?? 0) / of - share)).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / of));
  near(first.a, keys, 0.7);
  near(first.b, keys, 0.2);
  near(first.c, keys, 0.1);
  near(second.b, first.a ?? 0, 2 / 3);
});

test("two models with the same variants do not send a key to the same one", () => {
  const all = [
    { name: "a", weight: 1 },
    { name: "b", weight: 1 },
  ];
  const same = Array.from({ length: 1_000 }, (_, i) => `k${i}`).filter(
    (sticky) => ranked("m", all, sticky)[0]?.name === ranked("n", all, sticky)[0]?.name,
  );
  expect(same.length).toBeGreaterThan(400);
  expect(same.length).toBeLessThan(600);
});

test("fallbacks come in order, each with its own behind it, none twice", () => {
  const tree: Record<string, string[]> = { a: ["b", "c"], b: ["d"], c: ["d", "e"] };
  expect(withFallbacks("a", (id) => tree[id] ?? [])).toEqual(["a", "b", "d", "c", "e"]);
  expect(withFallbacks("x", () => [])).toEqual(["x"]);
});
