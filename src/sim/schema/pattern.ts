// Regular expressions of a request: a text that matches one, and whether a text does. Both work on a parsed subset in
// polynomial time, because a stranger's pattern is never given to a backtracking engine. Called by the schema files.
import { drawInteger, drawOne, type Rng } from "../rng.ts";

/** Its matches have `least` to `most` characters, not always each number between; `steps` is what one match costs. */
type Node = { readonly least: number; readonly most: number; readonly steps: number } & (
  | { readonly kind: "one"; readonly test: (character: string) => boolean; readonly likely: readonly string[] }
  | { readonly kind: "all" | "either"; readonly nodes: readonly Node[] }
  | { readonly kind: "repeat"; readonly node: Node; readonly min: number; readonly max: number }
  | { readonly kind: "start" | "end" }
);

export interface Pattern {
  /** A text that the pattern matches as a whole, of that many characters where it can. May miss an odd anchor. */
  readonly draw: (rng: Rng, lengths: { readonly min: number; readonly max: number }) => string;
  /** Somewhere in the text, as JSON Schema has it; `whole` from its first to its last character. */
  readonly matches: (text: string, whole: boolean) => boolean;
}

/** Look-around, back references, word boundaries, flags, or more than the limits below. */
export class PatternError extends Error {}

const PATTERN_CHARS_MAX = 4000;
const NESTING_MAX = 50;
const DRAWN_CHARS_MAX = 20_000;
/** Counts above it are refused: they would only make long texts of the same. */
const REPEAT_MAX = 10_000;
/** Of one match: repeats within repeats multiply. */
const STEPS_MAX = 100_000;
/** Longer texts match nothing: matching costs length times size of the pattern. */
const MATCHED_CHARS_MAX = 20_000;

export function parsePattern(source: string): Pattern {
  if (source.length > PATTERN_CHARS_MAX) throw new PatternError(`longer than ${PATTERN_CHARS_MAX} characters`);
  const parser = new Parser(source);
  const root = parser.parse();
  return {
    draw: (rng, { min, max }) => {
      if (Math.max(min, root.least) > DRAWN_CHARS_MAX) tooLong();
      const pieces: string[] = [];
      draw(root, rng, pieces);
      if (pieces.length >= min && pieces.length <= max) return pieces.join("");
      const fitted: string[] = [];
      const shortest = Math.min(Math.max(min, root.least), root.most);
      const longest = Math.max(shortest, Math.min(max, root.most, shortest + 20));
      drawOf(root, drawInteger(rng, shortest, longest), rng, fitted);
      return fitted.join("");
    },
    matches: (text, whole) => {
      const characters = [...text];
      if (characters.length > MATCHED_CHARS_MAX) return false;
      const starts = new Set(whole ? [0] : Array.from({ length: characters.length + 1 }, (_, at) => at));
      const ends = advance(root, characters, starts);
      return whole ? ends.has(characters.length) : ends.size > 0;
    },
  };
}

/** Where a match can end that starts at one of the places. */
function advance(node: Node, text: readonly string[], from: ReadonlySet<number>): Set<number> {
  switch (node.kind) {
    case "one": {
      const to = new Set<number>();
      for (const at of from) if (at < text.length && node.test(text[at] ?? "")) to.add(at + 1);
      return to;
    }
    case "all":
      return node.nodes.reduce<Set<number>>((places, one) => advance(one, text, places), new Set(from));
    case "either":
      return new Set(node.nodes.flatMap((one) => [...advance(one, text, from)]));
    case "repeat": {
      let places: Set<number> = new Set(from);
      for (let round = 0; round < node.min && places.size > 0; round++) places = advance(node.node, text, places);
      const reached = new Set(places);
      for (let round = node.min; round < node.max && places.size > 0; round++) {
        places = new Set([...advance(node.node, text, places)].filter((at) => !reached.has(at)));
        for (const at of places) reached.add(at);
      }
      return reached;
    }
    case "start":
      return new Set([...from].filter((at) => at === 0));
    case "end":
      return new Set([...from].filter((at) => at === text.length));
  }
}

const tooLong = (): never => {
  throw new PatternError(`a match has more than ${DRAWN_CHARS_MAX} characters`);
};

/** A short match, character by character. */
function draw(node: Node, rng: Rng, pieces: string[]): void {
  if (pieces.length > DRAWN_CHARS_MAX) tooLong();
  switch (node.kind) {
    case "one":
      pieces.push(drawOne(rng, node.likely));
      break;
    case "all":
      for (const one of node.nodes) draw(one, rng, pieces);
      break;
    case "either":
      draw(drawOne(rng, node.nodes), rng, pieces);
      break;
    case "repeat": {
      const count = drawInteger(rng, node.min, Math.min(node.max, node.min + 4));
      for (let round = 0; round < count; round++) draw(node.node, rng, pieces);
    }
  }
}

/** A match of that many characters; where the parts leave no such choice, the nearest they find. */
function drawOf(node: Node, length: number, rng: Rng, pieces: string[]): void {
  if (pieces.length > DRAWN_CHARS_MAX) tooLong();
  switch (node.kind) {
    case "one":
      pieces.push(drawOne(rng, node.likely));
      break;
    case "all":
      share(node.nodes, length, rng, pieces);
      break;
    case "either": {
      const fitting = node.nodes.filter(({ least, most }) => least <= length && length <= most);
      drawOf(drawOne(rng, fitting.length > 0 ? fitting : node.nodes), length, rng, pieces);
      break;
    }
    case "repeat": {
      const fewest = node.node.most > 0 ? Math.ceil(length / node.node.most) : 0;
      const most = Math.min(node.max, node.node.least > 0 ? Math.floor(length / node.node.least) : fewest);
      const count = drawInteger(rng, Math.max(node.min, fewest), Math.max(node.min, fewest, most));
      share(
        Array.from({ length: count }, () => node.node),
        length,
        rng,
        pieces,
      );
    }
  }
}

/** Gives each part a length of its own, so that they add up. */
function share(nodes: readonly Node[], length: number, rng: Rng, pieces: string[]): void {
  let [least, most, left] = [sum(nodes, "least"), sum(nodes, "most"), length];
  for (const node of nodes) {
    least -= node.least;
    // Without end less without end is no number: the open parts that follow can take all.
    most = Number.isFinite(node.most) ? most - node.most : sum(nodes.slice(nodes.indexOf(node) + 1), "most");
    const low = Math.max(node.least, left - most);
    const own = drawInteger(rng, low, Math.max(low, Math.min(node.most, left - least)));
    drawOf(node, own, rng, pieces);
    left -= own;
  }
}

const sum = (nodes: readonly Node[], end: "least" | "most" | "steps"): number =>
  nodes.reduce((total, node) => total + node[end], 0);

/** Drawn first: what a person would expect in a text. */
const letters = [..."abcdefghijklmnopqrstuvwxyz"];
const printable = [
  ...letters,
  ..."ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.,:;!?@/()'\"#$%&*+=<>[]{}|\\^~`\t\näöüßéèñ中文字汉日本語한국어",
];

/** Recursive descent over the characters of the source; it never looks back. */
class Parser {
  private readonly source: readonly string[];
  private at = 0;
  private depth = 0;

  constructor(source: string) {
    this.source = [...source];
  }

  parse(): Node {
    const node = this.either();
    if (this.at < this.source.length) throw new PatternError(`unexpected "${this.source[this.at]}"`);
    return node;
  }

  private either(): Node {
    if (++this.depth > NESTING_MAX) throw new PatternError(`nested deeper than ${NESTING_MAX}`);
    const nodes = [this.all()];
    while (this.take("|")) nodes.push(this.all());
    this.depth--;
    if (nodes.length === 1 && nodes[0] !== undefined) return nodes[0];
    const least = Math.min(...nodes.map((node) => node.least));
    const most = Math.max(...nodes.map((node) => node.most));
    return { kind: "either", nodes, least, most, steps: sum(nodes, "steps") };
  }

  private all(): Node {
    const nodes: Node[] = [];
    while (this.at < this.source.length && this.source[this.at] !== "|" && this.source[this.at] !== ")") {
      nodes.push(this.repeated(this.atom()));
    }
    return { kind: "all", nodes, least: sum(nodes, "least"), most: sum(nodes, "most"), steps: sum(nodes, "steps") };
  }

  private atom(): Node {
    const character = this.next();
    if (character === "(") return this.group();
    if (character === "[") return this.characterClass();
    if (character === "^") return edge("start");
    if (character === "$") return edge("end");
    if (character === ".")
      return one(
        ".",
        printable.filter((likely) => !/\s/.test(likely)),
      );
    if (character === "\\") return this.escape();
    if (character === "*" || character === "+" || character === "?")
      throw new PatternError(`nothing to repeat before "${character}"`);
    return literal(character);
  }

  private group(): Node {
    if (this.take("?")) {
      const named = this.take("P") ? this.take("<") : this.take("<");
      if (named) {
        const name: string[] = [];
        while (!this.take(">")) name.push(this.next());
        if (!/^\w+$/.test(name.join(""))) throw new PatternError("look-behind is not supported");
      } else if (!this.take(":")) {
        throw new PatternError("look-around and flags are not supported");
      }
    }
    const node = this.either();
    if (!this.take(")")) throw new PatternError("a group is not closed");
    return node;
  }

  private escape(): Node {
    const letter = this.next();
    if (letter === "A") return edge("start");
    if (letter === "Z" || letter === "z") return edge("end");
    if (/[bB1-9k]/.test(letter)) throw new PatternError(`\\${letter} is not supported`);
    const rest = letter === "x" ? 2 : letter === "u" && this.source[this.at] !== "{" ? 4 : letter === "c" ? 1 : 0;
    let source = `\\${letter}`;
    for (let count = 0; count < rest; count++) source += this.next();
    if (/[pPu]/.test(letter) && rest === 0) {
      do source += this.next();
      while (!source.endsWith("}"));
    }
    return /[A-Za-z0]/.test(letter) ? one(source) : literal(letter);
  }

  private characterClass(): Node {
    let source = "[";
    if (this.take("^")) source += "^";
    for (let first = true; first || this.source[this.at] !== "]"; first = false) {
      const character = this.next();
      if (first && character === "]") throw new PatternError("an empty class matches nothing");
      source += character === "\\" ? character + this.next() : character === "[" ? "\\[" : character;
    }
    this.at++;
    return one(`${source}]`);
  }

  private repeated(node: Node): Node {
    const [min, max] = this.quantifier() ?? [1, 1];
    if (min === 1 && max === 1) return node;
    this.take("?");
    if (this.source[this.at] === "+" || this.source[this.at] === "*") throw new PatternError("a repeat of a repeat");
    if (min > REPEAT_MAX || max < min) throw new PatternError(`repeats are 0 to ${REPEAT_MAX}, and rise`);
    const steps = node.steps * Math.max(1, min);
    if (steps > STEPS_MAX) throw new PatternError("its repeats multiply beyond measure");
    const most = node.most === 0 ? 0 : max * node.most;
    return { kind: "repeat", node, min, max, least: min * node.least, most, steps };
  }

  private quantifier(): [min: number, max: number] | null {
    if (this.take("*")) return [0, Number.POSITIVE_INFINITY];
    if (this.take("+")) return [1, Number.POSITIVE_INFINITY];
    if (this.take("?")) return [0, 1];
    const counted = /^\{(\d*)(,?)(\d*)\}/.exec(this.source.slice(this.at, this.at + 24).join(""));
    if (counted === null || (counted[1] === "" && counted[3] === "")) return null;
    this.at += counted[0].length;
    const min = Number(counted[1] || 0);
    const max = counted[2] === "" ? min : counted[3] === "" ? Number.POSITIVE_INFINITY : Number(counted[3]);
    return [min, max];
  }

  private next(): string {
    const character = this.source[this.at++];
    if (character === undefined) throw new PatternError("it ends too early");
    return character;
  }

  private take(character: string): boolean {
    if (this.source[this.at] !== character) return false;
    this.at++;
    return true;
  }
}

const edge = (kind: "start" | "end"): Node => ({ kind, least: 0, most: 0, steps: 1 });

const character = (test: (character: string) => boolean, likely: readonly string[]): Node => ({
  kind: "one",
  test,
  likely,
  least: 1,
  most: 1,
  steps: 1,
});

const literal = (wanted: string): Node => character((other) => other === wanted, [wanted]);

/** A class by its source: the engine decides on single characters, where it cannot backtrack. */
function one(source: string, among: readonly string[] = printable): Node {
  const expression = singleCharacter(source);
  const test = (character: string): boolean => expression.test(character);
  const found = among.filter(test);
  const lower = found.filter((character) => letters.includes(character));
  const plain = found.filter((character) => /[A-Za-z0-9]/.test(character));
  const likely = lower.length > 0 ? lower : plain.length > 0 ? plain : found;
  if (likely.length > 0) return character(test, likely);
  for (let code = 0; code < 0x3000; code++) {
    const candidate = String.fromCodePoint(code);
    if (test(candidate)) return character(test, [candidate]);
  }
  throw new PatternError(`nothing matches ${source}`);
}

function singleCharacter(source: string): RegExp {
  for (const flags of ["u", ""]) {
    try {
      return new RegExp(`^${source}$`, flags);
    } catch {
      // The unicode mode refuses some escapes that are common in patterns.
    }
  }
  throw new PatternError(`${source} is not understood`);
}
