// Embeddings of the simulator: texts that share words or parts of words lie near each other, so that search and
// classification can be tried without a model. Deterministic on every machine; of synonyms it knows those of concepts.ts.
import { hash32 } from "./rng.ts";
import { conceptsOf } from "./text/concepts.ts";
import { isNegation, isStopWord, stem, wordsOf } from "./text/words.ts";

/** Wider than any model in use; more would be an attack on memory. */
export const EMBEDDING_DIMENSIONS_MAX = 8192;

/** Two places a feature, so that one collision does not decide. */
const PLACES = 2;

/**
 * A unit vector of 1 to EMBEDDING_DIMENSIONS_MAX dimensions from hashed words, neighbours and groups of three
 * characters, with signs (feature hashing, Weinberger et al. 2009). A text without words has a vector of its own.
 */
export function embed(text: string, dimensions: number): Float32Array {
  if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > EMBEDDING_DIMENSIONS_MAX) {
    throw new RangeError(`dimensions must be 1 to ${EMBEDDING_DIMENSIONS_MAX}`);
  }
  const sums = new Float64Array(dimensions);
  for (const [feature, weight] of featuresOf(text)) {
    for (let place = 0; place < PLACES; place++) {
      const hash = hash32(feature, place);
      const at = (hash >>> 1) % dimensions;
      sums[at] = (sums[at] ?? 0) + (hash & 1 ? weight : -weight);
    }
  }
  // Collisions may cancel out to nothing; then the text points where its hash says.
  let length = Math.sqrt(sums.reduce((sum, value) => sum + value * value, 0));
  if (length === 0) {
    sums[hash32(text, 0) % dimensions] = 1;
    length = 1;
  }
  return Float32Array.from(sums, (value) => value / length);
}

/** Less than a word: it says what a text is about, and not what it says of it. */
const CONCEPT_WEIGHT = 0.7;

/** Features and their weights; what repeats counts by its logarithm. */
function featuresOf(text: string): Map<string, number> {
  const counts = new Map<string, { weight: number; count: number }>();
  const add = (feature: string, weight: number): void => {
    const entry = counts.get(feature);
    if (entry === undefined) counts.set(feature, { weight, count: 1 });
    else entry.count += 1;
  };
  let before = "";
  for (const word of wordsOf(text)) {
    if (packed.test(word)) {
      addPacked(word, add);
      before = "";
      continue;
    }
    const meaning = isStopWord(word) ? 0.2 : isNegation(word) ? 1.2 : 1;
    const root = meaning === 1 ? stem(word) : word;
    add(`w:${root}`, meaning);
    if (before !== "") add(`p:${before} ${root}`, 0.25 * meaning);
    before = root;
    if (meaning === 1) for (const group of groupsOf(`^${root}$`, 3)) add(`g:${group}`, 0.6 / Math.sqrt(root.length));
  }
  for (const concept of conceptsOf(text)) add(`c:${concept}`, CONCEPT_WEIGHT);
  if (counts.size === 0) add(`t:${text}`, 1);
  return new Map([...counts].map(([feature, { weight, count }]) => [feature, weight * (1 + Math.log(count))]));
}

/** Scripts that pack words together are compared by characters and their pairs. */
const packed = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}]/u;

function addPacked(run: string, add: (feature: string, weight: number) => void): void {
  for (const character of run) add(`w:${character}`, isStopWord(character) ? 0.1 : 0.7);
  for (const pair of groupsOf(run, 2)) add(`g:${pair}`, [...pair].some(isStopWord) ? 0.15 : 0.6);
}

function groupsOf(word: string, size: number): string[] {
  const characters = [...word];
  const count = Math.max(0, characters.length - size + 1);
  return Array.from({ length: count }, (_, at) => characters.slice(at, at + size).join(""));
}
