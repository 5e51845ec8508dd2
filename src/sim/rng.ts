// Seeded random numbers of the simulator: whoever draws makes a generator of its own from a seed that names what it
// draws for, so that the same request gets the same answer whatever else runs. It keeps no state of a module.

/** The next number of a sequence, in [0, 1). */
export type Rng = () => number;

/** The same seed gives the same sequence on every machine: sfc32 (PractRand) over four hashes of the seed. */
export function createRng(seed: string): Rng {
  let [a, b, c, counter] = [hash32(seed, 1), hash32(seed, 2), hash32(seed, 3), 1];
  const next = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 0x1_0000_0000;
  };
  for (let round = 0; round < 12; round++) next();
  return next;
}

/** FNV-1a over UTF-16 code units with MurmurHash3's finaliser: 32 bits that differ for every seed. */
export function hash32(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ Math.imul(seed, 0x9e3779b1);
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A whole number in [from, to]. */
export const drawInteger = (rng: Rng, from: number, to: number): number => from + Math.floor(rng() * (to - from + 1));

/** One of the items; the list must not be empty. */
export function drawOne<Item>(rng: Rng, items: readonly Item[]): Item {
  const item = items[Math.floor(rng() * items.length)];
  if (item === undefined) throw new RangeError("nothing to draw from");
  return item;
}
