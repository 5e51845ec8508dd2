// Values that fit a schema's field by their meaning, drawn from a conversation: what makes structured answers and tool
// arguments useful. Called with each field by the generator, which takes the first that conforms.
import type { Wanted } from "./schema/generate.ts";
import { stringsFor } from "./string-fields.ts";
import type { Field, SuggestionSource } from "./suggestion-source.ts";
import { conceptsOf } from "./text/concepts.ts";
import {
  datesIn,
  emailsIn,
  itemsOf,
  keywordsIn,
  labelledValue,
  listIn,
  nameWords,
  numberNear,
  numbersIn,
  peopleIn,
  placesIn,
} from "./text/material.ts";
import { sentencesOf } from "./text/statements.ts";
import { isNegation, normalised, termsOf, wordsOf } from "./text/words.ts";

/** Longer material is looked at by its beginning: fields are many, and each looks for itself. */
const LOOKED_AT_CHARS_MAX = 20_000;

export function suggestFrom(source: SuggestionSource): (wanted: Wanted) => readonly unknown[] {
  const texts = [source.asked, source.rest]
    // Runs of blanks would have the expressions go over them again and again.
    .map((text) =>
      text
        .slice(0, LOOKED_AT_CHARS_MAX)
        .replace(/[^\S\n]+/g, " ")
        .replace(/\n\s+/g, "\n"),
    )
    .filter((text, at) => at === 0 || text !== "");
  // Fields without a clue share out the numbers that there are, in order: `a` and `b` of "add 3 and 5".
  const shares = new Map<string, number>();
  return (wanted) => {
    if (wanted.name === "" && wanted.type !== "string" && wanted.type !== "array") return [];
    const found = texts.flatMap((text, at): unknown[] => {
      if (Array.isArray(wanted.schema.enum)) return membersIn(wanted.schema.enum, text, wanted.index + source.entity);
      const about: Field = { ...wanted, words: nameWords(wanted.name), first: at === 0 };
      const label = wanted.name === "" ? null : labelledValue(text, wanted.name);
      const written = label === null ? [] : typed(label, wanted.type);
      const read = ofType(about, text, source, shares);
      // A label's value ends at a comma, a list goes on.
      return wanted.type === "array" ? [...read, ...written] : [...written, ...read];
    });
    const plain = wanted.type === "boolean" && !Array.isArray(wanted.schema.enum) && !wanted.optional;
    return plain ? [...found, false] : found;
  };
}

function ofType(about: Field, text: string, source: SuggestionSource, shares: Map<string, number>): unknown[] {
  switch (about.type) {
    case "integer":
    case "number":
      return numbersFor(about, text, source, shares);
    case "boolean":
      return truthFor(about, text);
    case "array":
      return listsFor(about, text);
    case "string":
      return stringsFor(about, text, source);
    default:
      return [];
  }
}

/** A labelled value as the type wants it: "34 years" is 34, "yes" is true. */
function typed(value: string, type: string): unknown[] {
  switch (type) {
    case "integer":
    case "number":
      return numbersIn(value)
        .slice(0, 1)
        .map((found) => found.value);
    case "boolean":
      return /^(?:yes|true|ja|是|有|on)\b/i.test(value)
        ? [true]
        : /^(?:no|false|nein|否|没|off)/i.test(value)
          ? [false]
          : [];
    case "array":
      return [itemsOf(value)];
    case "string":
      return [value];
    default:
      return [];
  }
}

/** What is judged, not read: a number of the text would be a wrong one. */
const judged = /score|confidence|rating|probability|likelihood|relevance|quality|index|priority|weight$|id$/i;
const age =
  /(\d{1,3})\s*-?\s*(?:years?[ -]old|y\/?o\b|jahre alt|jährig|岁|세|살)|,\s*(\d{1,3})\s*(?:,|\.|$|\bfemale|\bmale)/i;

function numbersFor(
  { name, description, words, optional }: Field,
  text: string,
  { sparse }: SuggestionSource,
  shares: Map<string, number>,
): number[] {
  const aged = words.includes("age") || words.includes("alter") ? age.exec(text) : null;
  // Sure of itself, as models are.
  if (/confidence|probability|likelihood/i.test(name)) return [0.9, 90];
  if (aged !== null) return [Number(aged[1] ?? aged[2])];
  const near = numberNear(text, [...words, ...wordsOf(description)]);
  if (near !== null) return [near];
  const numbers = numbersIn(text);
  if (judged.test(name) || numbers.length === 0 || (optional && sparse)) return [];
  const share = shares.get(name) ?? shares.size;
  shares.set(name, share);
  return numbers.slice(share, share + 1).map(({ value }) => value);
}

/** True where a word of the name stands without a negation beside it. */
function truthFor({ words, description }: Field, text: string): boolean[] {
  const wanted = new Set(termsOf(words.filter((word) => !/^(?:is|has|was|should|can|ist|hat)$/.test(word)).join(" ")));
  const concepts = conceptsOf(`${words.join(" ")} ${wanted.size === 0 ? description : ""}`);
  for (const clause of text.split(/[.!?;,\n。\uff01\uff1f\uff1b\uff0c]|\bbut\b|\baber\b/)) {
    const said =
      termsOf(clause).some((term) => wanted.has(term)) ||
      [...conceptsOf(clause)].some((concept) => concepts.has(concept));
    if (said) return [!wordsOf(clause).some(isNegation) && !/[不没未无]|\bnicht\p{L}|\bnon-/iu.test(clause)];
  }
  return [];
}

function listsFor({ words, schema }: Field, text: string): unknown[] {
  const { items } = schema;
  const members =
    typeof items === "object" && items !== null && "enum" in items && Array.isArray(items.enum) ? items.enum : null;
  if (members !== null) {
    const mentioned = members.filter((member) => mentions(text, member));
    return mentioned.length > 0 ? [mentioned] : [];
  }
  const list = listIn(text, words);
  if (list.length > 0) return [list];
  if (words.some((word) => /^(?:symptoms?|complaints?|symptome|beschwerden)$/.test(word)))
    return nonEmpty(complaintsIn(text));
  if (words.some((word) => /^(?:tags?|keywords?|topics?|labels?|stichw|themen|标签|关键词)/.test(word)))
    return [keywordsIn(text).slice(0, 5)];
  if (words.some((word) => /^(?:cit(?:y|ies)|places?|locations?|orte?|städte)$/.test(word)))
    return nonEmpty(placesIn(text));
  if (words.some((word) => /^(?:names?|people|persons?|participants?|attendees?|entities)$/.test(word)))
    return nonEmpty(peopleIn(text));
  if (words.some((word) => /^(?:e?mails?|recipients?)$/.test(word))) return nonEmpty(emailsIn(text));
  if (words.some((word) => /^(?:dates?)$/.test(word))) return nonEmpty(datesIn(text));
  if (words.some((word) => /^(?:numbers?|values?|operands?)$/.test(word)))
    return nonEmpty(numbersIn(text).map(({ value }) => value));
  return [];
}

/** "She has severe chest pain and cough": what somebody has, of the sentences that speak of an ailment. */
function complaintsIn(text: string): string[] {
  const ailments = ["#pain", "#fever", "#cough", "#nausea", "#breath", "#fatigue"];
  for (const sentence of sentencesOf(text)) {
    const had = /\b(?:has|have|had|hat|habe|haben|with|mit|reports|an)\s+(?:an? |had )?(\p{L}[^.;:\n]{2,200})/iu.exec(
      sentence,
    )?.[1];
    if (had !== undefined && ailments.some((one) => conceptsOf(had).has(one)) && !wordsOf(had).some(isNegation))
      return itemsOf(had);
  }
  return [];
}

const nonEmpty = (items: readonly unknown[]): unknown[] => (items.length === 0 ? [] : [items]);

const moods: readonly (readonly [RegExp, RegExp])[] = [
  [
    /^(?:positive?|good|happy|satisfied|like|positiv|gut|正面|积极|긍정)/i,
    /\b(?:good|great|love|loved|excellent|happy|wonderful|perfect|amazing|best|recommend|thank|works well|gut|super|toll|zufrieden|liebe|begeistert)\b|很好|喜欢|满意|不错|좋/gi,
  ],
  [
    /^(?:negative?|bad|angry|unsatisfied|dislike|negativ|schlecht|负面|消极|부정)/i,
    /\b(?:bad|terrible|hate|awful|poor|broken|worst|disappointed|angry|late|never again|refund|schlecht|furchtbar|kaputt|enttäuscht|ärgerlich)\b|很差|讨厌|失望|糟|나쁘|별로/gi,
  ],
];

/** Members of an enum that the text names, in its order; else by mood. The n-th comes first. */
export function membersIn(members: readonly unknown[], text: string, index: number): unknown[] {
  const flat = normalised(text);
  const mentioned = members.filter((member) => mentions(text, member));
  // A text that names all of them asks which one.
  const named = (mentioned.length < members.length || members.length === 1 ? mentioned : []).toSorted(
    (a, b) => flat.indexOf(normalised(String(a))) - flat.indexOf(normalised(String(b))),
  );
  if (named.length > 0) return [named[index % named.length], ...named];
  const counted = members
    .map((member) => ({ member, count: moods.find(([mood]) => mood.test(String(member)))?.[1] }))
    .map(({ member, count }) => ({ member, count: count === undefined ? 0 : (text.match(count)?.length ?? 0) }))
    .toSorted((a, b) => b.count - a.count);
  if ((counted[0]?.count ?? 0) > 0) return counted.slice(0, 1).map(({ member }) => member);
  const neutral = counted.filter(({ member }) =>
    /^(?:neutral|unsure|unknown|other|none|unclear)$/i.test(String(member)),
  );
  const spoken = members.filter(
    (member) => typeof member === "string" && [...conceptsOf(member)].some((concept) => conceptsOf(text).has(concept)),
  );
  return [...spoken, ...neutral.map(({ member }) => member)];
}

/** A word of its own, or its stem: "refunds" mentions "refund". */
function mentions(text: string, member: unknown): boolean {
  if (typeof member !== "string" && typeof member !== "number") return false;
  const wanted = termsOf(nameWords(String(member)).join(" "));
  const said = new Set(termsOf(text));
  return wanted.length > 0
    ? wanted.every((term) => said.has(term))
    : normalised(text).includes(normalised(String(member)));
}
