// Values that fit a schema's field by their meaning, drawn from a conversation: what makes structured answers and tool
// arguments useful. Called with each field by the generator, which takes the first that conforms.
import type { Wanted } from "./schema/generate.ts";
import { arithmeticIn } from "./text/arithmetic.ts";
import { conceptsOf } from "./text/concepts.ts";
import {
  codesIn,
  datesIn,
  dayWordsIn,
  emailsIn,
  itemsOf,
  keywordsIn,
  labelledValue,
  listIn,
  namesIn,
  nameWords,
  numberNear,
  numbersIn,
  peopleIn,
  phonesIn,
  placesIn,
  quotesIn,
  timesIn,
  urlsIn,
} from "./text/material.ts";
import { rank } from "./text/rank.ts";
import { type Statement, sentencesOf } from "./text/statements.ts";
import { isNegation, normalised, termsOf, wordsOf } from "./text/words.ts";

export interface SuggestionSource {
  /** The last request, with what was given along. */
  readonly asked: string;
  /** What else was said, and what tools answered: looked at second. */
  readonly rest: string;
  /** The answer in words, for fields that want prose. */
  readonly reply: () => string;
  /** A field is bound to the n-th of several entities: "Paris" and "London" of two calls. */
  readonly entity: number;
  /** Optional fields are suggested only what is plainly meant for them: arguments of a function. */
  readonly sparse: boolean;
}

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
      const about: About = { ...wanted, words: nameWords(wanted.name), first: at === 0 };
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

interface About extends Wanted {
  readonly words: readonly string[];
  /** The text is the request itself. */
  readonly first: boolean;
}

function ofType(about: About, text: string, source: SuggestionSource, shares: Map<string, number>): unknown[] {
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
  { name, description, words, optional }: About,
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
function truthFor({ words, description }: About, text: string): boolean[] {
  const wanted = new Set(termsOf(words.filter((word) => !/^(?:is|has|was|should|can|ist|hat)$/.test(word)).join(" ")));
  const concepts = conceptsOf(`${words.join(" ")} ${wanted.size === 0 ? description : ""}`);
  for (const clause of text.split(/[.!?;,\n。\uff01\uff1f\uff1b\uff0c]|\bbut\b|\baber\b/)) {
    const said =
      termsOf(clause).some((term) => wanted.has(term)) ||
      [...conceptsOf(clause)].some((concept) => concepts.has(concept));
    if (said) return [!wordsOf(clause).some(isNegation) && !/[不没未无]/.test(clause)];
  }
  return [];
}

function listsFor({ words, schema }: About, text: string): unknown[] {
  const { items } = schema;
  const members =
    typeof items === "object" && items !== null && "enum" in items && Array.isArray(items.enum) ? items.enum : null;
  if (members !== null) {
    const mentioned = members.filter((member) => mentions(text, member));
    return mentioned.length > 0 ? [mentioned] : [];
  }
  const list = listIn(text, words);
  if (list.length > 0) return [list];
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

const nonEmpty = (items: readonly unknown[]): unknown[] => (items.length === 0 ? [] : [items]);

type Finder = (text: string, about: About, source: SuggestionSource) => readonly string[];

/** What a name or description asks for, the first that fits. */
const finders: readonly (readonly [RegExp, Finder])[] = [
  [/\b(?:e ?mail|mail address)\b/, emailsIn],
  [/\b(?:url|uri|link|website|webseite)\b/, urlsIn],
  [/\b(?:phone|telephone|mobile|telefon\w*)\b/, phonesIn],
  [/\b(?:expression|formula|equation|ausdruck|rechnung)\b/, (text) => [arithmeticIn(text)?.expression ?? ""]],
  [/\b(?:origin|departure|source city|abflug|von)\b/, (text) => placesIn(text, /^(?:from|von|aus)\b/)],
  [/\b(?:destination|arrival|ziel|nach)\b/, (text) => placesIn(text, /^(?:to|nach)\b/)],
  [
    /\b(?:city|location|place|country|region|town|address|stadt|ort|land|adresse)\b|城市|地点|도시|지역|위치/,
    (text) => placesIn(text),
  ],
  [/\b(?:first name|vorname|given name)\b/, (text) => peopleIn(text).map((name) => name.split(" ")[0] ?? "")],
  [
    /\b(?:last name|surname|nachname|family name)\b/,
    (text) => peopleIn(text).map((name) => name.split(" ").at(-1) ?? ""),
  ],
  [
    /\b(?:language|sprache)\b|语言/,
    (text) =>
      text.match(
        /\b(?:english|german|french|spanish|italian|chinese|japanese|korean|portuguese|dutch|polish|englisch|deutsch|französisch|spanisch|italienisch|chinesisch)\b/gi,
      ) ?? [],
  ],
  [
    /\b(?:currency|währung)\b/,
    (text) => [
      ...(text.match(/\b(?:EUR|USD|GBP|CHF|JPY|CNY)\b/g) ?? []),
      ...(/€|euro/i.test(text) ? ["EUR"] : /\$|dollar/i.test(text) ? ["USD"] : []),
    ],
  ],
  [/\b(?:date|day|deadline|due|birthday|datum|tag|when)\b|日期/, (text) => [...datesIn(text), ...dayWordsIn(text)]],
  [/\b(?:time|hour|uhrzeit)\b|时间/, (text) => [...timesIn(text), ...dayWordsIn(text)]],
  [
    /\b(?:occupation|job|profession|role|beruf)\b|职业/,
    (text) =>
      [
        ...text.matchAll(
          /\b(?:an?|als)\s+(?:\d+[- ]years?[- ]old\s+)?(\p{L}[\p{L} ]{2,30}?)(?=[,.\n]| from\b| in\b| who\b| at\b| living\b|$)/gu,
        ),
      ].map((match) => match[1] ?? ""),
  ],
  [
    /\b(?:symbol|ticker|code|id|identifier|number|nummer|sku|isbn|order)\b/,
    (text) => [...codesIn(text), ...numbersIn(text).map(({ value }) => String(value))],
  ],
  [
    /\b(?:name|person|patient|customer|recipient|author|contact|who|empfänger|kunde)\b|姓名|名字|이름/,
    (text) => peopleIn(text),
  ],
  [
    /\b(?:unit|einheit)\b/,
    (text) => text.match(/\b(?:celsius|fahrenheit|kelvin|km|miles?|meters?|kg|pounds?)\b/gi) ?? [],
  ],
  [/\b(?:quote|evidence|citation|excerpt|zitat|span)\b|原文|引用/, (text) => quotable(text)],
  [
    /\b(?:summary|answer|reply|response|explanation|reason|reasons|reasoning|rationale|feedback|comment|conclusion|analysis|description|observation|notes?|justification|details?|zusammenfassung|antwort|begründung|kommentar|beschreibung)\b|总结|摘要|回答|理由|说明|요약|답변|이유/,
    (_text, _about, source) => [source.reply()],
  ],
  [
    /\b(?:query|question|search|keywords?|topic|subject|text|message|prompt|input|content|body|title|term|request|task|suchbegriff|frage|thema|betreff|titel|nachricht)\b|查询|关键词|内容|검색어|질문/,
    (text, about) => (about.first ? [...quotesIn(text), ...subjectOf(text, about)] : []),
  ],
];

function stringsFor(about: About, text: string, source: SuggestionSource): string[] {
  const { format, maxLength, pattern } = about.schema;
  if (typeof format === "string") return pick(formatted(format, text), about, source);
  if (typeof pattern === "string") return [...codesIn(text), ...quotesIn(text), ...wordsAsWritten(text)];
  if (about.name === "") return about.index === 0 ? [source.reply()] : [];
  const longest = typeof maxLength === "number" ? maxLength : 2000;
  for (const asks of [about.words.join(" "), normalised(about.description)]) {
    for (const [pattern, find] of finders) {
      if (!pattern.test(asks)) continue;
      const found = find(text, about, source).filter((value) => value !== "");
      if (found.length > 0) return pick(found, about, source).map((value) => shortened(value, longest));
    }
  }
  if (about.optional && source.sparse) return [];
  return pick(otherwise(about, text), about, source).map((value) => shortened(value, longest));
}

/** Nothing is known of the field: a sentence that speaks of it, a quote, a name, a word of the text. */
function otherwise({ words, description }: About, text: string): string[] {
  const statements = sentencesOf(text)
    .slice(0, 300)
    .map((sentence): Statement => ({ text: sentence, source: "context", heading: "", turn: 0 }));
  const best = rank(`${words.join(" ")} ${description}`, statements)[0];
  return [
    ...(best === undefined ? [] : [best.statement.text]),
    ...quotesIn(text),
    ...namesIn(text),
    ...keywordsIn(text).slice(0, 5),
  ];
}

/** The n-th for the n-th item or entity, then the others. */
function pick(found: readonly string[], { index }: Wanted, { entity }: SuggestionSource): string[] {
  const at = (index + entity) % Math.max(1, found.length);
  return [...found.slice(at), ...found.slice(0, at)];
}

function formatted(format: string, text: string): string[] {
  switch (format) {
    case "email":
      return emailsIn(text);
    case "uri":
    case "url":
      return urlsIn(text);
    case "date":
      return datesIn(text);
    case "time":
      return timesIn(text).map((time) => `${time.padStart(5, "0")}:00Z`);
    case "date-time": {
      const time = timesIn(text)[0]?.padStart(5, "0") ?? "00:00";
      return [
        ...(text.match(/\d{4}-\d{2}-\d{2}T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/g) ?? []),
        ...datesIn(text).map((date) => `${date}T${time}:00Z`),
      ];
    }
    default:
      return wordsAsWritten(text).slice(0, 200);
  }
}

const wordsAsWritten = (text: string): string[] =>
  text
    .match(/[^\s,;"'()<>]{2,64}/g)
    ?.slice(0, 400)
    .map((word) => word.replace(/[.!?:]+$/, "")) ?? [];

/** Pieces of the text as they stand, for evidence. */
const quotable = (text: string): string[] =>
  sentencesOf(text)
    .filter((sentence) => sentence.length > 3)
    .slice(0, 200);

const requestVerb =
  /^\W*(?:(?:please|can you|could you|would you|i (?:want|need|would like) (?:you )?to|bitte|kannst du|können sie|请帮?我?)\s*)*(?:(?:search|look up|look|find|google|get|show|fetch|query|check|tell me about|translate|send|write|draw|generate|create|suche?|finde|zeige?|übersetze?|sende?|schreibe?|搜索|查找|查询|查一下|翻译)\s*)(?:(?:me|us|for|up|the web|online|on the web|an?|the|mir|nach|im internet|有关|关于)\s+)*/i;

/** What a request is about: without its verb, or behind "about". */
function subjectOf(text: string, { words }: About): string[] {
  const about = words.some((word) => /^(?:subject|title|topic|thema|betreff|titel)$/.test(word))
    ? /\b(?:about|titled|called|subject|über|zum thema)\s+([^.?!\n]{2,120}?)(?=\s+(?:saying|that says|with the text|and say)\b|[.?!\n]|$)/i.exec(
        text,
      )?.[1]
    : undefined;
  const saying = words.some((word) => /^(?:message|body|content|text|nachricht)$/.test(word))
    ? /\b(?:saying|that says|with the text|dass|:)\s+([^\n]{2,400})/i.exec(text)?.[1]
    : undefined;
  const first = sentencesOf(text).at(-1) ?? text;
  const plain = first
    .replace(requestVerb, "")
    .replace(/[?\uff1f.!\uff01。]+$/, "")
    .trim();
  return [about, saying, plain === "" ? first : plain]
    .filter((value) => value !== undefined)
    .map((value) => value.trim());
}

/** Whole sentences where they fit, else cut between characters. */
function shortened(text: string, charsMax: number): string {
  if ([...text].length <= charsMax) return text;
  let kept = "";
  for (const sentence of sentencesOf(text)) {
    if ([...`${kept} ${sentence}`].length > charsMax) break;
    kept = kept === "" ? sentence : `${kept} ${sentence}`;
  }
  return kept !== "" ? kept : [...text].slice(0, charsMax).join("");
}

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
