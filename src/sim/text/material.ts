// Finds in a conversation the pieces that a structured value is made of: names, numbers, dates, places, quotes, lists and
// labelled values. Called by suggestions.ts; it finds what is written and computes nothing.
import { conceptsOf } from "./concepts.ts";
import { isStopWord, likeness, stem, termsOf, wordsOf } from "./words.ts";

/** "dueDate", "due_date" and "due date" → ["due", "date"]. */
export const nameWords = (name: string): string[] =>
  wordsOf(name.replace(/([a-z\d])([A-Z])/g, "$1 $2").replace(/[_\-./]/g, " "));

const labelled =
  /(?:^|[\n,;{(]|\.\s)\s*[-*•]?\s*["'`]?([\p{L}][\p{L}\p{N} _-]{0,40})["'`]?\s*[:\uff1a=]\s*(?:"([^"\n]*)"|'([^'\n]*)'|([^,;{}[\]\n]{1,200}))/gu;

/** The value behind a label that means the same as the name: "Age: 34", `"age": 34`. */
export function labelledValue(text: string, name: string): string | null {
  const wanted = nameWords(name).map(stem);
  const concepts = conceptsOf(wanted.join(" "));
  for (const match of text.matchAll(labelled)) {
    const label = nameWords(match[1] ?? "").map(stem);
    const same = label.length === wanted.length && label.every((word, at) => likeness(word, wanted[at] ?? "") > 0.8);
    const near =
      label.length <= 2 &&
      label.some((word) => wanted.includes(word)) &&
      wanted.every((word) => label.includes(word) || isStopWord(word));
    const alike = label.length === 1 && [...conceptsOf(match[1] ?? "")].some((concept) => concepts.has(concept));
    const value = (match[2] ?? match[3] ?? match[4] ?? "").trim().replace(/[.。]$/, "");
    if ((same || near || alike) && value !== "") return value;
  }
  return null;
}

const quotes =
  /"([^"\n]{1,400})"|“([^”\n]{1,400})”|„([^“”\n]{1,400})[“”]|«([^»\n]{1,400})»|「([^」\n]{1,400})」|(?<![\p{L}\d])'([^'\n]{2,400})'(?![\p{L}\d])/gu;
export const quotesIn = (text: string): string[] =>
  [...text.matchAll(quotes)].map((match) => match.slice(1).find((part) => part !== undefined) ?? "");

export interface FoundNumber {
  readonly value: number;
  readonly at: number;
}

const spelled: Readonly<Record<string, number>> = {
  two: 2,
  three: 3,
  four: 4,
  five: 5,
  six: 6,
  seven: 7,
  eight: 8,
  nine: 9,
  ten: 10,
  twelve: 12,
  zwei: 2,
  drei: 3,
  vier: 4,
  fünf: 5,
  sechs: 6,
  sieben: 7,
  acht: 8,
  neun: 9,
  zehn: 10,
};

const blank = (text: string): string => " ".repeat(text.length);

/** Numbers in digits, and small ones in words, in order; those of dates, times and names such as "B2" are none. */
export function numbersIn(text: string): FoundNumber[] {
  const plain = text.replace(datePattern, blank).replace(/\b\d{1,2}:\d\d\b/g, blank);
  const found: FoundNumber[] = [];
  for (const match of plain.matchAll(
    /(?<![\p{L}\d.])(-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?)(?![\d\p{Lu}])/gu,
  )) {
    const signed = (match[1] ?? "").replaceAll(",", "");
    // The dash of "3-5" is none of the 5's.
    const value = Number(/[\d\p{L}]/u.test(plain[match.index - 1] ?? " ") ? signed.replace("-", "") : signed);
    found.push({ value, at: match.index });
  }
  for (const match of plain.matchAll(/\p{L}+/gu)) {
    const key = match[0].toLowerCase();
    const value = Object.hasOwn(spelled, key) ? spelled[key] : undefined;
    if (value !== undefined) found.push({ value, at: match.index });
  }
  return found.sort((a, b) => a.at - b.at);
}

/** The number that stands nearest to a word of the name, within a sentence's reach. */
export function numberNear(text: string, names: readonly string[]): number | null {
  const REACH = 40;
  const stems = new Set(names.filter((name) => !isStopWord(name)).map(stem));
  const concepts = conceptsOf(names.join(" "));
  const places = [...text.matchAll(/[\p{L}]+/gu)].filter(
    ([word]) => stems.has(stem(word.toLowerCase())) || [...conceptsOf(word)].some((one) => concepts.has(one)),
  );
  let best: { distance: number; value: number } | null = null;
  for (const { value, at } of numbersIn(text)) {
    for (const place of places) {
      const distance = place.index > at ? place.index - at : at - place.index - place[0].length;
      const apart = text.slice(Math.min(at, place.index), Math.max(at, place.index));
      if (distance > REACH || /[.!?。\n]\s/.test(apart)) continue;
      if (best === null || distance < best.distance) best = { distance, value };
    }
  }
  return best?.value ?? null;
}

const months =
  "january february march april may june july august september october november december januar februar märz april mai juni juli august september oktober november dezember".split(
    " ",
  );
const monthPattern = [...new Set(months)].join("|");
const datePattern = new RegExp(
  `\\d{4}-\\d{2}-\\d{2}(?:T[\\d:.]+(?:Z|[+-]\\d\\d:\\d\\d)?)?|\\d{1,2}\\.\\d{1,2}\\.\\d{4}|\\d{1,2}\\.? (?:of )?(?:${monthPattern})(?: \\d{4})?|(?:${monthPattern}) \\d{1,2}(?:st|nd|rd|th)?,? \\d{4}|\\d{4}年\\d{1,2}月\\d{1,2}日`,
  "gi",
);

/** Calendar dates as `YYYY-MM-DD`, those with a year alone. */
export function datesIn(text: string): string[] {
  return [...text.matchAll(datePattern)].flatMap(([written]) => {
    const iso = /^(\d{4})-(\d{2})-(\d{2})/.exec(written) ?? /^(\d{4})年(\d{1,2})月(\d{1,2})/.exec(written);
    if (iso !== null) return dateOf(iso[1], iso[2], iso[3]);
    const german = /^(\d{1,2})\.(\d{1,2})\.(\d{4})$/.exec(written);
    if (german !== null) return dateOf(german[3], german[2], german[1]);
    const month = months.findIndex((name) => written.toLowerCase().includes(name));
    const year = /\d{4}/.exec(written)?.[0];
    return dateOf(year, String((month % 12) + 1), /\d{1,2}/.exec(written.replace(year ?? "", ""))?.[0]);
  });
}

function dateOf(year?: string, month?: string, day?: string): string[] {
  if (year === undefined || month === undefined || day === undefined) return [];
  const date = `${year}-${month.padStart(2, "0")}-${day.padStart(2, "0")}`;
  return new Date(`${date}T00:00:00Z`).toString() !== "Invalid Date" ? [date] : [];
}

export const timesIn = (text: string): string[] => text.match(/\b(?:[01]?\d|2[0-3]):[0-5]\d\b/g) ?? [];
/** "tomorrow", "next Monday": as written, for fields without a format. */
export const dayWordsIn = (text: string): string[] =>
  text.match(
    /\b(?:today|tomorrow|tonight|yesterday|(?:next |this )?(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|week|month)|heute|morgen|gestern|(?:nächsten )?(?:montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag))\b|今天|明天|后天|昨天|오늘|내일|어제/gi,
  ) ?? [];
export const emailsIn = (text: string): string[] =>
  text.match(/[\w.+-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,4}/gi) ?? [];
export const urlsIn = (text: string): string[] =>
  (text.match(/\bhttps?:\/\/[^\s<>"'()]{1,500}/gi) ?? []).map((url) => url.replace(/[.,;!?]+$/, ""));
export const phonesIn = (text: string): string[] => text.match(/\+?\d[\d ()/-]{6,18}\d/g) ?? [];
/** "ORD-1234", "A17", "AAPL". */
export const codesIn = (text: string): string[] =>
  text.match(
    /\b(?=[A-Z0-9-]*[A-Z])(?:[A-Z]{2,6}-?\d{1,8}|[A-Z]\d{1,8}|[A-Z]{2,5}(?![a-z])|[A-Z0-9]+-[A-Z0-9-]+)\b|#\d{2,10}\b/g,
  ) ?? [];

const capital = "\\p{Lu}[\\p{L}'’-]+(?:(?: (?:am|de|la|of|upon) )?[ ]?\\p{Lu}[\\p{L}'’-]+){0,3}";
const personPattern = new RegExp(
  `(?:[Mm]y name is|[Ii]'?m|I am|[Cc]alled|[Nn]amed|[Yy]ou are|[Pp]atient(?:in)?|[Ii]ch heiße|[Ii]ch bin|[Mm]ein Name ist|[Dd]u bist|Herr|Frau|Mr\\.?|Mrs\\.?|Ms\\.?|Dr\\.?|with|mit|to|an|ask|tell|[Cc]ontact)\\s+(${capital})`,
  "gu",
);

/** Names of people, the likeliest first. */
export function peopleIn(text: string): string[] {
  const asian = [
    ...text.matchAll(
      /(?:我叫|名叫|叫做?|姓名[:\uff1a]\s*|我是谁】)([\p{Script=Han}]{2,4})(?=[,\uff0c。.;\uff1b、\s(\uff08岁]|$)/gu,
    ),
  ].map((match) => match[1] ?? "");
  const introduced = [...text.matchAll(personPattern)].map((match) => match[1] ?? "");
  return [...new Set([...asian, ...introduced, ...namesIn(text)])].filter((name) => !isPlaceWord(name));
}

const placeBefore = new RegExp(
  `\\b(?:in|to|from|at|near|for|of|nach|aus|von|für|bei|à|en)\\s+(${capital}(?:\\s*(?:,|and|und|or|oder|&)\\s*(?:in |for )?${capital}){0,5})`,
  "gu",
);

/** "What about Berlin?", "那上海呢？", "그럼 부산은?" */
const goesOn = new RegExp(
  `^(?:[Ww]hat|[Hh]ow) about (${capital})\\W*$|^那?([\\p{Script=Han}]{2,4})呢[?\\uff1f]?$|^(?:그럼|그러면|그리고)\\s+(\\p{Script=Hangul}{2,4}?)(?:은|는|도)?[?\\uff1f]?$`,
  "u",
);

/** Places after "in", "to", "from"; `after` picks one of the words. Also 北京的天气 and 서울 날씨. */
export function placesIn(text: string, after?: RegExp): string[] {
  const found = [...text.matchAll(placeBefore)]
    .filter(([all]) => after === undefined || after.test(all))
    // "for Anna in Berlin": what may be a person comes last.
    .toSorted(([a], [b]) => Number(/^(?:for|of|für|von)\b/.test(a)) - Number(/^(?:for|of|für|von)\b/.test(b)))
    .flatMap((match) => (match[1] ?? "").split(/\s*(?:,|\band\b|\bund\b|\bor\b|\boder\b|&)\s*(?:in |for )?/))
    .filter((place) => place !== "" && !isCalendarWord(place));
  const han = text
    .split(/[,\uff0c。、和与跟]|以及/)
    .flatMap((part) =>
      [
        ...part.matchAll(
          /(?:在|去|到|从|查一?下?|请问)?([\p{Script=Han}]{2,3}?)(?:市|今天|明天|现在|的)*(?:天气|气温)/gu,
        ),
      ].map((match) => match[1] ?? ""),
    );
  const hangul = [
    ...text.matchAll(/([\p{Script=Hangul}]{2,4}?)(?:의|에서|에)?\s*(?:오늘|내일|지금)?\s*(?:의\s*)?날씨/gu),
  ].map((match) => match[1] ?? "");
  const further = goesOn
    .exec(text.trim())
    ?.slice(1)
    .find((place) => place !== undefined);
  return [...new Set([...found, ...han, ...hangul, ...(further === undefined ? [] : [further])])];
}

const isCalendarWord = (word: string): boolean =>
  new RegExp(
    `^(?:${monthPattern}|monday|tuesday|wednesday|thursday|friday|saturday|sunday|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag|english|german|french|spanish)$`,
    "i",
  ).test(word);
const isPlaceWord = (word: string): boolean =>
  /^(?:Street|Road|Hotel|Monday|Today)$/.test(word) || isCalendarWord(word);

/** Runs of capitalised words that do not merely begin a sentence. */
export function namesIn(text: string): string[] {
  const found: string[] = [];
  for (const match of text.matchAll(new RegExp(capital, "gu"))) {
    const starts = /(?:^|[.!?:\n"“(]\s*|^\s*[-*]\s*)$/.test(text.slice(0, match.index));
    const words = match[0].split(" ");
    if (
      starts &&
      (words.length < 2 || isStopWord((words[0] ?? "").toLowerCase())) &&
      !/^\s*(?:is|was|has|ist|war|hat|,)\b/.test(text.slice(match.index + match[0].length))
    )
      continue;
    if (
      !isStopWord(match[0].toLowerCase()) &&
      !/^(?:The|This|That|It|He|She|There|Der|Die|Das|Es|Er|Sie|JSON|XML|YAML|CSV|HTML|PDF)$/.test(words[0] ?? "")
    )
      found.push(match[0]);
  }
  return [...new Set(found)];
}

/** Items of an enumeration: bullets, else "a, b and c" behind a label or verb of the name. */
export function listIn(text: string, names: readonly string[]): string[] {
  const stems = new Set(names.map(stem));
  const concepts = conceptsOf(names.join(" "));
  const about = (words: string): boolean =>
    wordsOf(words).some((word) => stems.has(stem(word))) ||
    [...conceptsOf(words)].some((concept) => concepts.has(concept));
  for (const match of text.matchAll(
    /([^.!?。\n:]{2,80})[:\uff1a]?\s+((?:[^,.;:\n]{2,40},\s*)+[^,.;:\n]{0,40}(?:\s*(?:and|und|or|&)\s+[^,.;:\n]{2,40})?)/g,
  )) {
    if (about(match[1] ?? "")) return itemsOf(match[2] ?? "");
  }
  const bullets = text.match(/^\s*[-*•]\s+\S.*$/gm);
  return bullets !== null && bullets.length > 1 ? bullets.map((line) => line.replace(/^\s*[-*•]\s+/, "").trim()) : [];
}

export const itemsOf = (text: string): string[] =>
  text
    .split(/\s*(?:,|;|、|\band\b|\bund\b|\bor\b|&)\s*/)
    .map((item) => item.replace(/[.。]$/, "").trim())
    .filter((item) => item !== "");

/** Words that say most of a text, the commonest first, as they are written. */
export function keywordsIn(text: string): string[] {
  const counts = new Map<string, { word: string; count: number }>();
  for (const word of text.match(/[\p{L}\p{N}-]{3,}/gu) ?? []) {
    const key = termsOf(word)[0];
    if (key === undefined || /^\d+$/.test(word)) continue;
    const entry = counts.get(key) ?? { word: word.toLowerCase(), count: 0 };
    counts.set(key, { word: entry.word, count: entry.count + 1 + (word.length > 6 ? 0.3 : 0) });
  }
  return [...counts.values()].sort((a, b) => b.count - a.count).map(({ word }) => word);
}
