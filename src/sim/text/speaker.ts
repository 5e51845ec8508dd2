// Who the model is to be, by its prompt, and how that one says a statement: in the first person where it is a person.
// Called by all that make a reply; it decides nothing about what is answered.
import type { Rng } from "../rng.ts";
import { type Language, languageOf } from "./language.ts";
import { describedToFirst, toFirstPerson, toSecondPerson } from "./person.ts";
import type { Conversation, Statement } from "./statements.ts";
import { joined } from "./summary.ts";

/** What a reply is made of. */
export interface Scene {
  readonly conversation: Conversation;
  readonly language: Language;
  /** The prompt gives the model a person to be, rather than a job as an assistant. */
  readonly persona: boolean;
  /** The prompt speaks of that person as "the patient". */
  readonly described: boolean;
  readonly rng: Rng;
}

export function sceneOf(conversation: Conversation, rng: Rng): Scene {
  const { question, prompt } = conversation;
  const described =
    /\b(?:you are|play|act as|role of)\b[^.\n]{0,40}\bpatient\b|(?:扮演|你是|你就是)[^。\n]{0,12}(?:病人|患者)/i.test(
      prompt,
    );
  return {
    conversation,
    language: languageOf(question, languageOf(prompt)),
    persona: described || isPersona(conversation),
    described,
    rng,
  };
}

const assistantRole =
  /(?:you are|you're|du bist|sie sind|你是|您是|당신은|あなたは)[^.。,\uff0c\n]{0,60}(?:assistant|agent|\bbot\b|chatbot|expert|model|support|advisor|tutor|teacher|helper|reviewer|editor|analyst|engineer|writer|generator|assistent|berater|experte|助手|客服|助理|教师|专家|机器人|工程师|어시스턴트|비서|도우미|アシスタント)/i;
const personaRole =
  /\b(?:you are|you're|you have|your name|du bist|du heißt|sie sind)\b|你是|你就是|你叫|我是谁|당신은|\bI am\b|我的情况/i;

/** "You are Milo, the friendly assistant of …": behind a name. */
const assistantNamed =
  /(?:you are|you're|du bist|sie sind) [^.\n]{0,80}(?<!not |kein)\b(?:an?|the|our|der|die|ein\p{L}*) (?:[\p{L}-]+ ){0,3}(?:assistant|chatbot|bot|concierge|assistent\p{L}*)\b/iu;
/** Engineers and teachers are people too, where they have an age or come as patients. */
const mortalRole =
  /(?:you are|you're|du bist|sie sind)[^.\n]{0,60}\b(?:aged? \d|\d{1,3}[ -](?:years?|jahre)|patient)|(?:you are|you're|du bist|sie sind)[^.\n]{0,60},\s*\d{2}\s*[,.]|你(?:就)?是[^。\n]{0,40}(?:岁|病人|患者)/i;

/** The prompt gives the model a person to be. */
export const isPersona = ({ prompt }: Conversation): boolean =>
  personaRole.test(prompt) &&
  ((!assistantRole.test(prompt) && !assistantNamed.test(prompt)) || mortalRole.test(prompt));

const identityStart =
  /^(?:you are|your name is|i am|i'm|my name is|du bist|du hei(?:ß|ss)t|ich (?:bin|hei(?:ß|ss)e)|sie (?:sind|hei(?:ß|ss)en)|你是|你叫|你就是|我是|我叫|name:|姓名|당신은|저는|(?:the patient|she|he) is an? )/i;
const identityHeading = /我是谁|who (?:i am|you are)|identity|wer du bist/i;
/** It says who one is. */
export const isIdentity = ({ text, heading }: Statement): boolean =>
  identityStart.test(text.trim()) || identityHeading.test(heading);

/** Who one is, in the first person; null where the prompt does not say. */
export function identityOf(scene: Scene): string | null {
  const own = scene.conversation.statements.filter(({ source }) => source === "prompt");
  const found =
    own.find(({ heading }) => identityHeading.test(heading)) ??
    own.find(({ text }) => /^(?:full )?name[:\uff1a]/i.test(text)) ??
    own.find(isIdentity);
  if (found === undefined) return null;
  return joined([found.heading.includes("谁") ? `我是${found.text}` : voiced(found, { ...scene, persona: true })]);
}

/** A statement as this speaker says it. */
export function voiced({ text, source }: Statement, { persona, described, language }: Scene): string {
  if (source === "user") return toSecondPerson(text);
  if (source !== "prompt" || !persona) return text;
  const labelled = /^([\p{L}][\p{L} ]{1,30})[:\uff1a]\s*(.+)$/u.exec(text);
  if (labelled !== null) return labelledAs(labelled[1] ?? "", labelled[2] ?? "", language);
  return described ? describedToFirst(text) : toFirstPerson(text);
}

/** "Age: 34" of a persona. */
function labelledAs(label: string, value: string, language: Language): string {
  if (language === "zh") return toFirstPerson(value);
  const plain = toFirstPerson(value).replace(/[.]$/, "");
  if (language === "en" && /^(?:no|none|nil)$/i.test(plain)) return `No ${label.toLowerCase()}.`;
  if (language === "en" && unspeakable.test(label))
    return `${asFor}${label.toLowerCase()}: ${value.replace(/[.]$/, "")}.`;
  if (language !== "en" || /^(?:yes|no|none|never|i)\b/i.test(value)) return `${label}: ${plain}.`;
  return `My ${label.toLowerCase()} ${/[^su]s$/.test(label) ? "are" : "is"} ${value.replace(/[.]$/, "")}.`;
}

/** "My smoking is five cigarettes a day" is nothing that anybody says. */
export const asFor = "As for ";
const unspeakable = /ing$|history|habits?|alcohol|tobacco/i;

/** Without its full stop, as it may stand within an earlier answer. */
export const bare = (text: string): string => text.replace(/[.。\uff01\uff1f!?]+$/, "");
