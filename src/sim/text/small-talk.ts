// Greetings, thanks and farewells, in the language they are said in; a person greets with who it is. Called by reply.ts
// before anything is looked for, and by the choice of a tool. A question behind a greeting is none of its.
import { drawOne } from "../rng.ts";
import { phrasesOf } from "./language.ts";
import { identityOf, type Scene } from "./speaker.ts";
import { joined } from "./summary.ts";
import { termsOf, wordsOf } from "./words.ts";

const greetings =
  /^(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|hallo|guten (?:tag|morgen|abend)|moin|servus|grüß gott|bonjour|salut|hola|buenos días)(?![a-zäöüß])|^(?:你好|您好|早上好|안녕하세요|안녕|こんにちは)/i;
const thanks = /^(?:thanks|thank you|thx|danke|vielen dank|merci|gracias|谢谢|多谢|감사합니다|고마워|ありがとう)/i;
const farewells = /^(?:bye|goodbye|see you|auf wiedersehen|tschüss|au revoir|adiós|再见|拜拜|안녕히|さようなら)/i;
const wellbeing =
  /^(?:how are you|how do you do|wie geht(?:'s| es)? (?:dir|ihnen)|comment (?:ça va|allez)|qué tal|你好吗|还好吗|잘 지내)/i;

/** Said out of courtesy: nothing is asked for. */
export const isCourtesy = (question: string): boolean =>
  [greetings, thanks, farewells].some((pattern) => pattern.test(question) && isAlone(question, pattern));

/** "Hello there Anna", "thanks, that is all": no more than that. */
const WORDS_MAX = 3;

/** A greeting before a question is answered by the answer; "Hello Mrs Keller, I am Dr. Lee." is a greeting. */
function isAlone(question: string, pattern: RegExp, known: ReadonlySet<string> = new Set()): boolean {
  if (/[?\uff1f]/.test(question)) return false;
  const rest = after(pattern, question);
  const terms = termsOf(rest).filter((term) => !known.has(term)).length;
  return introduction.test(rest) || terms === 0 || (terms === 1 && wordsOf(rest).length <= WORDS_MAX);
}

const after = (pattern: RegExp, question: string): string =>
  question.replace(pattern, "").replace(/^[\s,.!\uff0c。\uff01]+/, "");

/** Null where more than courtesy is said. */
export function smallTalk(scene: Scene): string | null {
  const { language, persona, rng } = scene;
  const { question } = scene.conversation;
  const phrases = phrasesOf(language);
  if (question.trim() === "") return drawOne(rng, phrases.greeting);
  const name = persona ? identityOf(scene) : null;
  const known = new Set(termsOf(name ?? ""));
  if (wellbeing.test(question) && !persona) return drawOne(rng, phrases.wellbeing);
  if (greetings.test(question) && isAlone(question, greetings, known)) {
    if (!persona) return drawOne(rng, phrases.greeting);
    return joined([
      `${drawOne(rng, phrases.greeting).split(/[!.,\uff0c\uff01。]/)[0]}${language === "zh" || language === "ja" ? "\uff01" : "!"}`,
      ...(name === null ? [] : [name]),
    ]);
  }
  if (/^\W*(?:ok|okay|alright|all right|great|gut|verstanden|alles klar|好的|嗯|알겠습니다)\W*$/i.test(question))
    return drawOne(rng, phrases.noted);
  if (farewells.test(after(thanks, question))) return drawOne(rng, phrases.farewell);
  if (thanks.test(question) && isAlone(question, thanks)) return drawOne(rng, phrases.thanks);
  return null;
}

/** "Mr Miller, I am Dr. Lee.", "I am your nurse today"; "I am looking for …" is more. */
const introduction =
  /^(?:(?:(?:Mrs?|Ms|Herr|Frau|Dr)\.?\s+)?\p{Lu}\p{L}+[\s,.!]+)?(?:I am|I'm|[Mm]y name is|[Ii]ch bin|[Mm]ein Name ist)\s+(?:\p{Lu}[\p{L}.\s,]{0,40}|(?:\p{L}+\s+){0,3}(?:doctor|nurse|physician|student)\b[^.?!]{0,20})[.!]?\s*$|^(?:我是|我叫|我姓)[^。\uff0c,]{1,12}[。\uff01]?\s*$|^(?:[Nn]ice|[Pp]leased) to meet you\W*$/u;
