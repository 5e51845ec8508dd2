// Strings for the fields of a schema, found by what a field's name or description asks for: a city, an e-mail address, a
// quote, a search query. Called by suggestions.ts; it reads the conversation and makes nothing up.
import type { Wanted } from "./schema/generate.ts";
import type { Field, SuggestionSource } from "./suggestion-source.ts";
import { arithmeticIn } from "./text/arithmetic.ts";
import {
  codesIn,
  datesIn,
  dayWordsIn,
  emailsIn,
  keywordsIn,
  namesIn,
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
import { normalised } from "./text/words.ts";

type Finder = (text: string, about: Field, source: SuggestionSource) => readonly string[];

const filePath = /(?<![\w:/])(?:[\w.~-]{0,60}\/[\w./-]{1,200}|[\w-]{1,60}\.[a-z]\w{0,4}\b)/gi;

/** What a name or description asks for, the first that fits. */
const finders: readonly (readonly [RegExp, Finder])[] = [
  [/\b(?:e ?mail|mail address)\b/, emailsIn],
  [/\b(?:url|uri|link|website|webseite)\b/, urlsIn],
  [/\b(?:path|file|filename|folder|directory|datei|pfad)\b/, (text) => text.match(filePath) ?? []],
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

/** The best first; those that do not conform are passed over by the generator. */
export function stringsFor(about: Field, text: string, source: SuggestionSource): string[] {
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
function otherwise({ words, description }: Field, text: string): string[] {
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
function subjectOf(text: string, { words }: Field): string[] {
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
    .replace(/[?\uff1f.!\uff01。]+$/, "")
    .replace(/(?:을|를)?\s*(?:검색|찾아|조회|알려|번역)\S*$/, "")
    .replace(requestVerb, "")
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
