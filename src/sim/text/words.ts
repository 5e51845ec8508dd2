// Text into the terms it is compared by: lower-case stems of words, and character pairs for scripts that write no
// spaces or glue particles to words. Search in a conversation, embeddings and the choice of a tool stand on it.

/** Texts are cut here before they are looked at; a context window of text is shorter. */
export const TEXT_CHARS_MAX = 400_000;

const wordPattern = /[\p{L}\p{M}\p{N}]+(?:['’]\p{L}+)?/gu;
/** Han, kana, Hangul and Thai: compared by pairs of characters. */
const pairedScript = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}]+/gu;

const words = (text: string): ReadonlySet<string> => new Set(text.split(" "));

const stopWords = words(
  "a an the and or but if then so of to in on at by for from with about as into over under than that this these those " +
    "is am are was were be been being do does did have has had having will would can could should shall may might must " +
    "i me my mine you your yours he him his she her hers it its we us our they them their myself yourself " +
    "what which who whom whose when where why how there here please tell say give know any some just also very too " +
    "let's let get got i'm i've you're you've it's that's what's don't didn't isn't aren't " +
    "der die das den dem des ein eine einen einem einer eines und oder aber wenn dann so von zu im in am an auf bei für " +
    "aus mit über als unter dass dies diese dieser dieses ist bin bist sind war waren sein wird werden wurde haben habe " +
    "hast hat hatte kann kannst können soll muss darf ich mich mir mein meine meinen du dich dir dein deine deinen er ihn " +
    "ihm sie ihr ihre wir uns es man was welche welcher wer wem wen wann wo warum wie da hier bitte sag mal auch sehr noch " +
    "schon denn doch etwa gibt gib zum zur ja " +
    "exactly precisely genau " +
    "long lange lang many much viel viele old alt often oft far weit something etwas anything everything " +
    "le la les un une des du de et ou à au aux en est sont je tu il elle nous vous que qui quoi quel quelle " +
    "el los las una y o en es son yo tú usted que qué cual cuál como cómo su mi",
);
/** Never stop words: with one of them a sentence says the opposite. */
const negations = words(
  "no not never none nothing without nor cannot can't don't doesn't didn't isn't wasn't haven't hasn't won't " +
    "nicht kein keine keinen keinem keiner nie nichts ohne weder nein pas sans jamais nunca sin 不 没 未 无 非 안 못",
);
const pairedStops = words(
  "对 的 了 吗 呢 吧 啊 是 在 有 我 你 您 他 她 它 们 这 那 个 就 也 都 和 与 及 请 问 么 什 哪 谁 怎 之 而 被 把 给 让 会 能 要 几 多 到 得 着 过 还 很 说 " +
    "은 는 이 가 을 를 의 에 도 로 と の は が を に で も た す",
);

export const isNegation = (term: string): boolean => negations.has(term);

/** Words that carry no meaning of their own in English, German, French or Spanish, and Chinese particles. */
export const isStopWord = (word: string): boolean =>
  !negations.has(word) && (stopWords.has(word) || pairedStops.has(word));

export const normalised = (text: string): string => text.slice(0, TEXT_CHARS_MAX).normalize("NFKC").toLowerCase();

/** Words in order, lower case; a run of a paired script is one word. */
export const wordsOf = (text: string): string[] => normalised(text).replaceAll("’", "'").match(wordPattern) ?? [];

const suffixes = [
  "ungen",
  "ingly",
  "edly",
  "ings",
  "ing",
  "ern",
  "est",
  "ies",
  "ied",
  "en",
  "er",
  "em",
  "es",
  "ed",
  "ly",
  "e",
  "s",
];

/** A light stem that suits English and German: enough that "pains" meets "pain" and "Schmerzen" meets "Schmerz". */
export function stem(word: string): string {
  if (word.length < 4 || /\d/.test(word)) return word;
  const bare = word
    .replace(/'\w+$/, "")
    .replaceAll("ß", "ss")
    .replace(/[äöü]/g, (umlaut) => plain[umlaut] ?? umlaut);
  for (const suffix of suffixes) {
    if (!bare.endsWith(suffix) || bare.length - suffix.length < 3) continue;
    const root = bare.slice(0, -suffix.length);
    // "stopped" and "running" lose the doubled letter too; "carries" gets its y back.
    if (suffix === "ies" || suffix === "ied") return `${root}y`;
    return /(ing|ed)$/.test(suffix) && /([b-df-hj-np-rtv-z])\1$/.test(root) ? root.slice(0, -1) : root;
  }
  return bare;
}
const plain: Readonly<Record<string, string>> = { ä: "a", ö: "o", ü: "u" };

/**
 * The terms of a text in order, repeated as often as they stand in it: stems without stop words, pairs of characters
 * and the characters for paired scripts. A text of stop words alone has none.
 */
export function termsOf(text: string): string[] {
  const terms: string[] = [];
  for (const word of wordsOf(text)) {
    const rest = word.replace(pairedScript, (run) => {
      terms.push(...pairsOf(run));
      return " ";
    });
    for (const piece of rest.split(" ")) {
      if (piece === "" || isStopWord(piece)) continue;
      terms.push(negations.has(piece) ? piece : stem(piece));
    }
  }
  return terms;
}

/** What asks and says nothing else. */
const askingPieces =
  /什么时候|以前|什么|怎么样|怎么|怎样|多长时间|多少|多大|多久|哪里|哪儿|哪些|有没有|是不是|请问|为什么|一下|时候/g;

/** Characters without particles, and the pairs of neighbours: few statements share a pair, many a character. */
function pairsOf(run: string): string[] {
  const terms: string[] = [];
  // "喘不喘" asks for 喘 and denies nothing.
  const asked = run.replace(/(\p{Script=Han})[不没]\1/gu, "$1").replace(askingPieces, " ");
  for (const piece of asked.replaceAll("疼", "痛").split(" ")) {
    const characters = [...piece].filter((character) => !pairedStops.has(character));
    characters.forEach((character, at) => {
      terms.push(character);
      if (at > 0) terms.push(`${characters[at - 1]}${character}`);
    });
  }
  return terms;
}

/** How alike two terms are by their groups of three characters, 0 to 1 (Dice). */
export function likeness(a: string, b: string): number {
  if (a === b) return 1;
  if (a.length < 4 || b.length < 4 || a[0] !== b[0]) return 0;
  const groups = new Set(groupsOf(a));
  const others = groupsOf(b);
  const both = others.reduce((count, group) => count + (groups.has(group) ? 1 : 0), 0);
  return (2 * both) / (groups.size + others.length);
}

const groupsOf = (term: string): string[] =>
  Array.from({ length: Math.max(1, term.length - 2) }, (_, index) => term.slice(index, index + 3));
