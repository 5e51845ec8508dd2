// Ranks statements by how well they answer a question: BM25 (Robertson and Zaragoza 2009) over stems, concepts and like
// spellings, with a bonus for the kind of answer that is asked for. Called by reply.ts and the choice of values.
import { conceptsIn, conceptsOf, isDrug, turnsIn } from "./concepts.ts";
import type { Statement } from "./statements.ts";
import { likeness, termsOf, wordsOf } from "./words.ts";

export interface Ranked {
  readonly statement: Statement;
  readonly score: number;
  /** How much of the question's weight it covers, 0 to 1. */
  readonly coverage: number;
  /** It speaks of something that few others speak of, in other words perhaps. */
  readonly sharesConcept: boolean;
  /** Its place among the statements, from 0. */
  readonly at: number;
}

export type QuestionKind = "when" | "where" | "who" | "number" | "why" | "other";

const kinds: readonly (readonly [QuestionKind, RegExp])[] = [
  [
    "when",
    /\b(when|since when|how long|what (?:time|day|date)|seit wann|wann|wie lange|quand|cuándo)\b|什么时候|多久|多长时间|几天|何时|几点|哪天|언제|얼마나 오래|いつ/i,
  ],
  ["where", /\b(where|wo|woher|wohin|où|dónde)\b|哪里|哪儿|什么地方|哪个地方|어디|どこ/i],
  ["who", /\b(who|whom|wer|wem|wen|qui|quién)\b|谁|누구|誰/i],
  [
    "number",
    /\b(how (?:many|much|old|often|high|far|tall|heavy)|wie (?:viele?|alt|oft|hoch|weit|schwer|groß)|combien|cuánt[oa]s?)\b|多少|几[次个口岁]|多大|多高|몇|얼마|いくつ|いくら/i,
  ],
  ["why", /\b(why|how come|warum|weshalb|wieso|pourquoi|por qué)\b|为什么|为何|怎么会|왜|なぜ/i],
];

/** What each kind of answer looks like. */
const looks: Readonly<Record<Exclude<QuestionKind, "other">, RegExp>> = {
  when: /\b(since|ago|for (?:\w+ )?(?:days?|weeks?|months?|years?|hours?)|yesterday|today|monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|march|april|may|june|july|august|september|october|november|december|morning|evening|night|\d{1,2}:\d\d|\d{4}|seit|vor (?:\w+ )?(?:tagen?|wochen?|monaten?|jahren?|stunden?)|gestern|heute|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag|uhr|days?|weeks?|hours?|within)\b|[一二三四五六七八九十两半几\d]+(?:天|小时|个月|年|周|点)|昨|今天|早上|晚上|凌晨|前开始|일|시간|주|어제|오늘/iu,
  where:
    /\b(in|at|on|near|left|right|upper|lower|side|under|behind|street|road|chest|belly|back|head|im|am|an der|links|rechts|oben|unten|straße)\b|[左右上下]|边|里|处|区|省|市|路|에서|쪽/i,
  who: /\b(?:mother|father|wife|husband|sister|brother|doctor|mutter|vater|frau|mann|arzt)\b|[a-z,] [A-Z][a-z]+/,
  number:
    /\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twice|once|ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|einmal|zweimal)\b|[一二三四五六七八九十百千两]/i,
  why: /\b(because|since|due to|after|so that|weil|wegen|da |damit|nachdem)\b|因为|所以|由于|之后|때문/i,
};

export const kindOf = (question: string): QuestionKind =>
  kinds.find(([, pattern]) => pattern.test(question))?.[0] ?? "other";

const K1 = 1.2;
const B = 0.5;
/** A concept says less than the word itself, a like spelling less still. */
const CONCEPT_WEIGHT = 0.8;
/** Whoever pastes a book asks at its beginning or at its end. */
const TERMS_MAX = 200;
const DRUG_WEIGHT = 0.25;
const LIKENESS_MIN = 0.5;
const LIKE_TERMS_MAX = 3000;

interface Indexed {
  readonly terms: ReadonlyMap<string, number>;
  readonly length: number;
}

/** A word of the question: matched by its stem, its concept or its spelling, whatever a statement has. */
interface Lookup {
  readonly near: readonly (readonly [term: string, quality: number])[];
  readonly weight: number;
}

/** Best first; statements that share nothing with the question are left out. `hints` count half: earlier questions. */
export type Ranker = (question: string, hints?: readonly string[]) => Ranked[];

export const rank = (question: string, statements: readonly Statement[]): Ranked[] =>
  createRanker(statements)(question);

/** Reads the statements once, for questions of any number. */
export function createRanker(statements: readonly Statement[]): Ranker {
  const read = createReader();
  const indexed = statements.map((statement, at) => indexOf(statement, statements[at - 1], read));
  const vocabulary = new Set(indexed.flatMap(({ terms }) => [...terms.keys()]));
  const averageLength = indexed.reduce((sum, { length }) => sum + length, 0) / Math.max(1, indexed.length);
  return (question, hints = []) => rankAll(question, hints, { statements, indexed, vocabulary, averageLength });
}

interface Index {
  readonly statements: readonly Statement[];
  readonly indexed: readonly Indexed[];
  readonly vocabulary: ReadonlySet<string>;
  readonly averageLength: number;
}

function rankAll(question: string, hints: readonly string[], index: Index): Ranked[] {
  const { statements, indexed, vocabulary, averageLength } = index;
  const lookups = [
    ...lookupsOf(question, 1, vocabulary),
    ...hints.flatMap((hint) => lookupsOf(hint, 0.5, vocabulary)),
  ].map(({ near, weight }) => {
    const documents = indexed.filter(({ terms }) => near.some(([one]) => terms.has(one))).length;
    // A word that no statement has counts like one that a single statement has: it may be a manner of speaking.
    const rarity = Math.log(1 + (indexed.length - Math.max(1, documents) + 0.5) / (Math.max(1, documents) + 0.5));
    const rare = documents <= Math.max(5, indexed.length / 6);
    return { near, weight: weight * Math.max(rarity, 0.2), rare };
  });
  const total = lookups.reduce((sum, { weight }) => sum + weight, 0) || 1;
  const kind = kindOf(question);
  const ranked = indexed.map(({ terms, length }, at): Ranked => {
    let [score, covered, sharesConcept] = [0, 0, false];
    for (const { near, weight, rare } of lookups) {
      const match = bestMatch(near, terms);
      if (match === null) continue;
      sharesConcept ||= rare && match.concept;
      const saturation = (match.count * (K1 + 1)) / (match.count + K1 * (1 - B + (B * length) / averageLength));
      score += weight * match.quality * saturation;
      covered += weight * match.quality * Math.min(1, match.count);
    }
    const statement = statements[at] as Statement;
    const suits = kind === "other" ? 1 : looks[kind].test(statement.text) ? 1.5 : 0.75;
    return {
      statement,
      at,
      sharesConcept,
      score: score * suits,
      coverage: Math.min(1, (covered / total) * Math.min(1.25, suits)),
    };
  });
  return ranked
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score || b.statement.turn - a.statement.turn || a.at - b.at);
}

function lookupsOf(text: string, weight: number, vocabulary: ReadonlySet<string>): Lookup[] {
  const concepts = [...conceptsIn(text)];
  const all = [...new Set(termsOf(text))];
  const terms = all.length <= TERMS_MAX ? all : [...all.slice(0, TERMS_MAX / 2), ...all.slice(-TERMS_MAX / 2)];
  const said = (term: string): string[] => concepts.flatMap(([concept, words]) => (words.has(term) ? [concept] : []));
  const lookups = terms.map((term): Lookup => {
    if (pairedTerm.test(term)) return { near: nearTerms(term, vocabulary), weight: (weight * [...term].length) / 3 };
    // Who asks for aspirin is not told of any other drug as if it were that.
    const own = said(term).map((concept) => [concept, isDrug(term) ? DRUG_WEIGHT : CONCEPT_WEIGHT] as const);
    return { near: [...nearTerms(term, vocabulary), ...own], weight };
  });
  // What no single term stands for: it weighs as much as the several characters that say it.
  const own = new Set(terms.filter((term) => !pairedTerm.test(term)));
  const loose = concepts.filter(([, words]) => own.isDisjointFrom(words));
  // "Before" is a when, and not what is asked for.
  const weightOf = (concept: string): number => (concept === "#previously" ? 0.5 : 2) * weight;
  return [
    ...lookups,
    ...loose.map(([concept]): Lookup => ({ near: [[concept, CONCEPT_WEIGHT]], weight: weightOf(concept) })),
  ];
}

const pairedTerm = /^[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]+$/u;
/** A sentence that goes on about what the one before named. */
const goesOn = /^(?:it|its|they|he|she|this|that|these|there|es|er|sie|dies\w*|它|他|她|这|그)\b|^(?:它|他|她|这)/i;
const CARRIED = 0.4;

function indexOf({ text, heading, turn }: Statement, before: Statement | undefined, read: Reader): Indexed {
  const terms = new Map<string, number>();
  const words = [...read(heading), ...read(text)];
  let length = 0;
  for (const { own, concepts } of words) {
    for (const term of own) terms.set(term, (terms.get(term) ?? 0) + 1);
    for (const concept of concepts) terms.set(concept, 1);
    length += own.length;
  }
  for (const [concept] of turnsIn(text)) terms.set(concept, 1);
  if (before !== undefined && before.turn === turn && goesOn.test(text)) {
    for (const { own, concepts } of read(before.text)) {
      for (const term of [...own, ...concepts]) if (!terms.has(term)) terms.set(term, CARRIED);
    }
  }
  return { terms, length: Math.max(1, length) };
}

interface ReadWord {
  readonly own: readonly string[];
  readonly concepts: readonly string[];
}
type Reader = (text: string) => readonly ReadWord[];

/** Words repeat: each is stemmed and looked up once. */
function createReader(): Reader {
  const known = new Map<string, ReadWord>();
  return (text) =>
    wordsOf(text).map((word) => {
      let found = known.get(word);
      if (found === undefined) {
        found = { own: termsOf(word), concepts: [...conceptsOf(word)] };
        known.set(word, found);
      }
      return found;
    });
}

/** The term itself and what is spelt like it, with how good a match each is. */
function nearTerms(term: string, vocabulary: ReadonlySet<string>): [term: string, quality: number][] {
  if (vocabulary.has(term)) return [[term, 1]];
  if (term.startsWith("#") || vocabulary.size > LIKE_TERMS_MAX) return [];
  const near: [string, number][] = [];
  for (const other of vocabulary) {
    if (other.startsWith("#")) continue;
    const alike = likeness(term, other);
    if (alike >= LIKENESS_MIN) near.push([other, 0.8 * alike]);
  }
  return near;
}

interface Match {
  readonly quality: number;
  readonly count: number;
  readonly concept: boolean;
}

function bestMatch(near: Lookup["near"], terms: ReadonlyMap<string, number>): Match | null {
  let best: Match | null = null;
  let concept = false;
  for (const [term, quality] of near) {
    const count = terms.get(term);
    if (count === undefined) continue;
    concept ||= term.startsWith("#");
    if (best === null || quality > best.quality) best = { quality, count, concept };
  }
  return best === null ? null : { ...best, concept };
}
