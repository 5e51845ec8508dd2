// Open questions to a person: who one is, how old, what one comes for, what else there is, what one does and where one
// lives. Called by reply.ts, which answers all others by search.
import { conceptsOf } from "./concepts.ts";
import { phrasesOf } from "./language.ts";
import { rank } from "./rank.ts";
import { bare, identityOf, isIdentity, type Scene, voiced } from "./speaker.ts";
import type { Statement } from "./statements.ts";
import { joined } from "./summary.ts";
import { isNegation, wordsOf } from "./words.ts";

const opening =
  /\bwhat brings you\b|\bwhat(?:'s| is| seems to be) (?:wrong|the (?:matter|problem|trouble))|\b(?:how|what) (?:can|may) (?:i|we) (?:help|do for you)|\b(?:was|womit|wie) (?:kann|können) (?:ich|wir) .{0,20}(?:tun|helfen)|\bhow are you\b|\bwhy are you here|^\W*what happened|\bwas führt (?:sie|dich)|\bwas fehlt (?:ihnen|dir)|\bwas (?:haben sie|hast du) für beschwerden|\bwie geht es|哪里不舒服|哪儿不舒服|哪不舒服|怎么了|什么不舒服|来看什么|어디가 (?:아프|불편)|무슨 일로/i;
const identity =
  /\b(?:who are you|what is your name|what's your name|your name|introduce yourself|tell me about yourself|wer (?:bist du|sind sie)|wie hei(?:ß|ss)(?:t du|en sie)|stell\w* (?:dich|sie sich) vor)\b|你是谁|您是谁|叫什么|贵姓|自我介绍|이름이|누구(?:세요|예요|십니까|신가요|야)|당신은 누구/i;
const more =
  /^\W*(?:(?:is there )?anything else|(?:do you have )?any other (?:problem|symptom|complaint)s?|what else|something else|and then|go on|sonst noch|noch etwas|was noch|还有(?:吗|什么|呢|别的|其他)|其他的?呢|또|더 있)/i;

/** Open questions: who one is, how old, what one comes for, what else there is. */
export function lead(scene: Scene): string | null {
  const { conversation, persona } = scene;
  const { question } = conversation;
  if (identity.test(question)) return identityOf(scene);
  if (persona && ageQuestion.test(question)) {
    const aged = conversation.statements.find(({ source, text }) => source === "prompt" && ageStatement.test(text));
    if (aged !== undefined) return aged.heading === "" ? joined([voiced(aged, scene)]) : identityOf(scene);
  }
  if (persona && jobQuestion.test(question)) {
    const works = conversation.statements.find(
      (one) =>
        one.source === "prompt" && !isIdentity(one) && conceptsOf(`${one.heading} ${one.text}`).has("#occupation"),
    );
    return works === undefined ? whoOneIs(scene) : joined([voiced(works, scene)]);
  }
  const goesOn = more.test(question);
  if (!goesOn && !(persona && opening.test(question))) return null;
  const told = conversation.earlierAnswers.join("\n");
  const fresh = conversation.statements
    .filter(({ source }) => source === "prompt" || source === "context")
    .filter((statement) => !isIdentity(statement) && !told.includes(bare(voiced(statement, scene))));
  // A complaint before a habit: what hurts is what one comes for, and not what hurts others.
  const own = fresh.filter(({ text }) => !isOfOthers(text) && !isWish(text) && !isDenial(text));
  const early = (wanted: string): Statement | undefined =>
    rank(wanted, own).toSorted((a, b) => b.score / (b.at + 2) - a.score / (a.at + 2))[0]?.statement;
  const chosen = goesOn ? fresh[0] : (early(complaints) ?? early(ailments) ?? fresh[0]);
  if (chosen === undefined) return goesOn && persona ? phrasesOf(scene.language).nothingMore : null;
  return joined([voiced(chosen, scene)]);
}

const complaints = "pain complaint problem fever cough schmerz beschwerden fieber husten 痛 不舒服 主诉 发烧 咳 통증";
const ailments = "breath dizzy swollen vomiting tired atemnot schwindel übelkeit 喘 头晕 恶心 没劲";
const jobQuestion =
  /\bfor a living\b|\byour (?:job|occupation|profession)\b|\bberuflich\b|\bvon beruf\b|(?:dein|ihr) beruf\b/i;
const ageQuestion =
  /\bhow old(?: are you|\W*$)|\byour age\b|\bwie alt(?: sind sie| bist du|\W*$)|\bdein alter\b|\bihr alter\b|多大|几岁|年龄|나이|몇 살/i;
const ageStatement =
  /\b\d{1,3}[ -]?(?:years?|jahre|y\/?o\b)|\d\s*岁|\d\s*[세살]|,\s*(?:aged?\s*)?\d{1,3}\s*(?:[,.]|$)|\bage:?\s*\d/i;

/** Who one is tells what one does and where one lives, where nothing says it better. */
export function whoOneIs(scene: Scene): string | null {
  const told = scene.persona ? identityOf(scene) : null;
  if (told === null) return null;
  const asked = conceptsOf(scene.conversation.question);
  const does = /\p{L}{4,}/u.test(told.replace(aboutName, " ").replace(aboutAge, " "));
  const lives = /\b(?:from|in|of|aus)\s+\p{Lu}|[省市州]|人[。,\uff0c]?$/u.test(told);
  return (asked.has("#occupation") && does) || (asked.has("#address") && lives) ? told : null;
}
const aboutName =
  /^(?:I am|My name is|Ich bin|Ich heiße|我是|我叫)\s*(?:(?:Mrs?|Ms|Frau|Herr|Dr)\.?\s+)?\p{L}+(?: \p{Lu}\p{L}+)*/u;
const aboutAge =
  /\b(?:years?|jahre|old|alt|aged?|male|female|woman|man|frau|mann|patient\p{L}*|from \p{L}+|in \p{L}+|aus \p{L}+)\b/giu;

const others: readonly string[] = ["#family", "#children", "#contact"];
const wishes: readonly string[] = ["#worry", "#belief", "#hope"];
const speaksOf = (text: string, concepts: readonly string[]): boolean => {
  const said = conceptsOf(text);
  return concepts.some((concept) => said.has(concept));
};
const isOfOthers = (text: string): boolean => speaksOf(text, others);
const isWish = (text: string): boolean => speaksOf(text, wishes);
const isDenial = (text: string): boolean =>
  wordsOf(text).some(isNegation) || /[不没未无]/.test(text.replaceAll("不舒服", ""));

/** It is about the family and the question is not, or the other way; or it is what one fears and hopes, unasked. */
export function besideOf(question: string): (statement: Statement) => boolean {
  const [ofOthers, wish] = [isOfOthers(question), isWish(question)];
  return ({ text, heading }) => ofOthers !== isOfOthers(text) || (!wish && isWish(`${heading} ${text}`));
}
