// Answers a question in words from the conversation alone: persona, documents and earlier turns, ranked by how well they
// fit, in the persona's first person. Called by answer.ts; where nothing fits it says so, and it never tells the prompt.
import { drawOne, type Rng } from "../rng.ts";
import { arithmeticIn } from "./arithmetic.ts";
import { conceptsOf } from "./concepts.ts";
import { draftAbout } from "./draft.ts";
import { type Language, languageOf, phrasesOf } from "./language.ts";
import { describedToFirst, toFirstPerson, toSecondPerson } from "./person.ts";
import { createRanker, kindOf, type Ranked, rank } from "./rank.ts";
import { type Conversation, isInstruction, type Statement, sentencesOf } from "./statements.ts";
import { joined, summarise, summaryWishOf } from "./summary.ts";
import { isNegation, isStopWord, termsOf, wordsOf } from "./words.ts";

/** Below it a statement shares a word with the question, and does not answer it. */
const COVERAGE_MIN = 0.3;
const SENTENCES_MAX = 5;

interface Scene {
  readonly conversation: Conversation;
  readonly language: Language;
  /** The prompt gives the model a person to be, rather than a job as an assistant. */
  readonly persona: boolean;
  /** The prompt speaks of that person as "the patient". */
  readonly described: boolean;
  readonly rng: Rng;
}

/** The answer, or an honest word that there is none. */
export function composeReply(conversation: Conversation, rng: Rng): string {
  const scene = sceneOf(conversation, rng);
  const answer = answerIn(scene);
  const phrases = phrasesOf(scene.language);
  return answer ?? drawOne(rng, scene.persona ? phrases.unsure : phrases.unknown);
}

/** What answers the question, null where nothing does: for fields that want prose. */
export const findAnswer = (conversation: Conversation, rng: Rng): string | null => answerIn(sceneOf(conversation, rng));

function sceneOf(conversation: Conversation, rng: Rng): Scene {
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

function answerIn(scene: Scene): string | null {
  for (const reply of [smallTalk, refusal, sum, extract, lead, found, whoOneIs, acknowledgement, draft]) {
    const text = reply(scene);
    if (text !== null && text !== "") return text;
  }
  return null;
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
  /(?:you are|you're|du bist|sie sind)[^.\n]{0,60}\b(?:aged? \d|\d{1,3}[ -](?:years?|jahre)|\d{1,3}\s*[,.]|patient)|你(?:就)?是[^。\n]{0,40}(?:岁|病人|患者)/i;

/** The prompt gives the model a person to be. */
export const isPersona = ({ prompt }: Conversation): boolean =>
  personaRole.test(prompt) &&
  ((!assistantRole.test(prompt) && !assistantNamed.test(prompt)) || mortalRole.test(prompt));

const greetings =
  /^(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|hallo|guten (?:tag|morgen|abend)|moin|servus|grüß gott|bonjour|salut|hola|buenos días|你好|您好|早上好|안녕하세요|안녕|こんにちは)/i;
const thanks = /^(?:thanks|thank you|thx|danke|vielen dank|merci|gracias|谢谢|多谢|감사합니다|고마워|ありがとう)/i;
const farewells = /^(?:bye|goodbye|see you|auf wiedersehen|tschüss|au revoir|adiós|再见|拜拜|안녕히|さようなら)/i;
const wellbeing =
  /^(?:how are you|how do you do|wie geht(?:'s| es)? (?:dir|ihnen)|comment (?:ça va|allez)|qué tal|你好吗|还好吗|잘 지내)/i;

/** Said out of courtesy: nothing is asked for. */
export const isCourtesy = (question: string): boolean =>
  [greetings, thanks, farewells].some((pattern) => pattern.test(question)) && !/[?\uff1f]/.test(question);

function smallTalk(scene: Scene): string | null {
  const { language, persona, rng } = scene;
  const { question } = scene.conversation;
  const phrases = phrasesOf(language);
  if (question.trim() === "") return drawOne(rng, phrases.greeting);
  const name = persona ? identityOf(scene) : null;
  const known = new Set(termsOf(name ?? ""));
  // A greeting before a question is answered by the answer; "Hello Mrs Keller, I am Dr. Lee." is a greeting.
  const alone = (pattern: RegExp): boolean => {
    const rest = question.replace(pattern, "").replace(/^[\s,.!\uff0c。\uff01]+/, "");
    if (/[?\uff1f].*[^?\uff1f\s]/.test(question)) return false;
    return introduction.test(rest) || termsOf(rest).filter((term) => !known.has(term)).length <= 1;
  };
  if (wellbeing.test(question) && !persona) return drawOne(rng, phrases.wellbeing);
  if (greetings.test(question) && (alone(greetings) || question.length < 50) && !/[?\uff1f]/.test(question)) {
    if (!persona) return drawOne(rng, phrases.greeting);
    return joined([
      `${drawOne(rng, phrases.greeting).split(/[!.,\uff0c\uff01。]/)[0]}${language === "zh" || language === "ja" ? "\uff01" : "!"}`,
      ...(name === null ? [] : [name]),
    ]);
  }
  if (/^\W*(?:ok|okay|alright|all right|great|gut|verstanden|alles klar|好的|嗯|알겠습니다)\W*$/i.test(question))
    return drawOne(rng, phrases.noted);
  const parting = question.replace(thanks, "").replace(/^[\s,.!\uff0c。\uff01]+/, "");
  if (farewells.test(parting)) return drawOne(rng, phrases.farewell);
  if (thanks.test(question) && alone(thanks)) return drawOne(rng, phrases.thanks);
  return null;
}

const introduction =
  /^(?:I am|I'm|my name is|this is|ich bin|mein name ist|我是|我叫|我姓)[\s\p{L}.,]{1,40}[.!。\uff01]?\s*$/iu;

const probing =
  /\b(?:system|your|initial|hidden|original) (?:prompt|instructions?|rules|guidelines|configuration)\b|\b(?:ignore|disregard|forget|override) (?:all |any |the |your |every )*(?:previous|prior|above|earlier|instructions?|rules)|\brepeat (?:the|everything|all|your) (?:text|words|above|instructions?)|(?:deine|ihre) (?:anweisung|instruktion|systemprompt|regeln)|ignoriere (?:alle|die)|忽略.{0,8}(?:指令|要求|提示)|(?:你的|系统)(?:指令|规则|设定|提示词|提示)|提示词|标准答案|病例设定|暗号|프롬프트|지시(?:사항)?를|システムプロンプト/i;

function refusal({ conversation: { question }, language, rng }: Scene): string | null {
  return probing.test(question) ? drawOne(rng, phrasesOf(language).refusal) : null;
}

function sum({ conversation: { question }, persona }: Scene): string | null {
  const found = persona ? null : arithmeticIn(question);
  return found === null ? null : `${found.expression} = ${found.value}`;
}

const extractive =
  /\b(?:summari[sz]es?|summary|sum(?:s|ming)?\b[^.?!\n]{0,40}\bup|tl;?dr|key points|main points|zusammenfass\w*|fass\w* .*zusammen|résum\w*|resum\w*)\b|总结|概括|摘要|要点|요약|要約/i;
const reporting =
  /^\W*(?:please |bitte |请)?(?:write|draft|create|generate|prepare|compose|schreib\w*|erstell\w*|verfass\w*|撰写|写|生成|작성)/i;

/** A summary or a report section from what is given, or from what was said before. */
function extract({ conversation, persona }: Scene): string | null {
  const { question, given, statements, prompt } = conversation;
  const summary = extractive.test(question);
  // The job is the prompt's, and what the user says is its material.
  const said = `${given}\n${question}`;
  const isMaterial = !summary && !persona && extractive.test(prompt) && !/[?\uff1f]\s*$/.test(question);
  if (isMaterial && sentencesOf(said).length > 1) return summarise(said, summaryWishOf(prompt));
  if (!summary && !(reporting.test(question) && given.trim() !== "")) return null;
  const material =
    given.trim() !== ""
      ? given
      : statements
          .filter(({ source }) => source !== "assistant")
          .map(({ text }) => text)
          .join("\n");
  if (material.trim() === "") return null;
  const wish = summaryWishOf(question);
  // A section of a report tells all of its data, a summary a third.
  return summarise(material, summary || wish.sentences !== null ? wish : { ...wish, sentences: 12 });
}

const opening =
  /\bwhat brings you\b|\bwhat(?:'s| is| seems to be) (?:wrong|the (?:matter|problem|trouble))|\b(?:how|what) (?:can|may) (?:i|we) (?:help|do for you)|\b(?:was|womit|wie) (?:kann|können) (?:ich|wir) .{0,20}(?:tun|helfen)|\bhow are you\b|\bwhy are you here|^\W*what happened|\bwas führt (?:sie|dich)|\bwas fehlt (?:ihnen|dir)|\bwas (?:haben sie|hast du) für beschwerden|\bwie geht es|哪里不舒服|哪儿不舒服|哪不舒服|怎么了|什么不舒服|来看什么|어디가 (?:아프|불편)|무슨 일로/i;
const identity =
  /\b(?:who are you|what is your name|what's your name|your name|introduce yourself|tell me about yourself|wer (?:bist du|sind sie)|wie hei(?:ß|ss)(?:t du|en sie)|stell\w* (?:dich|sie sich) vor)\b|你是谁|您是谁|叫什么|贵姓|自我介绍|이름이|누구/i;
const more =
  /^\W*(?:(?:is there )?anything else|(?:do you have )?any other (?:problem|symptom|complaint)s?|what else|something else|and then|go on|sonst noch|noch etwas|was noch|还有(?:吗|什么|呢|别的|其他)|其他的?呢|또|더 있)/i;

/** Open questions: who one is, how old, what one comes for, what else there is. */
function lead(scene: Scene): string | null {
  const { conversation, persona } = scene;
  const { question } = conversation;
  if (identity.test(question)) return identityOf(scene);
  if (persona && ageQuestion.test(question)) {
    const aged = conversation.statements.find(({ source, text }) => source === "prompt" && ageStatement.test(text));
    if (aged !== undefined) return aged.heading === "" ? joined([voiced(aged, scene)]) : identityOf(scene);
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
    rank(wanted, own).toSorted((a, b) => b.score / (b.at + 4) - a.score / (a.at + 4))[0]?.statement;
  const chosen = goesOn ? fresh[0] : (early(complaints) ?? early(ailments) ?? fresh[0]);
  if (chosen === undefined) return goesOn && persona ? phrasesOf(scene.language).nothingMore : null;
  return joined([voiced(chosen, scene)]);
}

const others: readonly string[] = ["#family", "#children", "#contact"];
const wishes: readonly string[] = ["#worry", "#belief", "#hope"];
const isOfOthers = (text: string): boolean => others.some((concept) => conceptsOf(text).has(concept));
const isWish = (text: string): boolean => wishes.some((concept) => conceptsOf(text).has(concept));
const isDenial = (text: string): boolean =>
  wordsOf(text).some(isNegation) || /[不没未无]/.test(text.replaceAll("不舒服", ""));

const complaints = "pain complaint problem fever cough schmerz beschwerden fieber husten 痛 不舒服 主诉 发烧 咳 통증";
const ailments = "breath dizzy swollen vomiting tired atemnot schwindel übelkeit 喘 头晕 恶心 没劲";
const ageQuestion =
  /\bhow old(?: are you|\W*$)|\byour age\b|\bwie alt(?: sind sie| bist du|\W*$)|\bdein alter\b|\bihr alter\b|多大|几岁|年龄|나이|몇 살/i;
const ageStatement =
  /\b\d{1,3}[ -]?(?:years?|jahre|y\/?o\b)|\d\s*岁|\d\s*[세살]|,\s*(?:aged?\s*)?\d{1,3}\s*(?:[,.]|$)|\bage:?\s*\d/i;

const identityStart =
  /^(?:you are|your name is|i am|i'm|my name is|du bist|du hei(?:ß|ss)t|ich (?:bin|hei(?:ß|ss)e)|sie (?:sind|hei(?:ß|ss)en)|你是|你叫|你就是|我是|我叫|name:|姓名|당신은|저는|(?:the patient|she|he) is an? )/i;
const identityHeading = /我是谁|who (?:i am|you are)|identity|wer du bist/i;
const isIdentity = ({ text, heading }: Statement): boolean =>
  identityStart.test(text.trim()) || identityHeading.test(heading);

function identityOf(scene: Scene): string | null {
  const own = scene.conversation.statements.filter(({ source }) => source === "prompt");
  const found =
    own.find(({ heading }) => identityHeading.test(heading)) ??
    own.find(({ text }) => /^(?:full )?name[:\uff1a]/i.test(text)) ??
    own.find(isIdentity);
  if (found === undefined) return null;
  return joined([found.heading.includes("谁") ? `我是${found.text}` : voiced(found, { ...scene, persona: true })]);
}

const detailed =
  /\b(?:describe|explain|tell me (?:more|about|everything)|everything|details?|list|all (?:the|your|of)|erzähl\w*|beschreib\w*|erklär\w*|alles|genau)\b|详细|介绍|说说|哪些|都有|자세히|설명/i;
const followUp = /^\W*(?:and|or|but|so|what about|how about|und|oder|aber|那|那么|呢|그럼|그리고)\b|^那|呢[?\uff1f]?$/i;

/** What was said that fits the question best. */
function found(scene: Scene): string | null {
  const { conversation } = scene;
  const { question, earlierQuestions, earlierAnswers } = conversation;
  const ofMe = /\b(?:my|mine|i|me|mein\w*|ich|mir|mich)\b|我/i.test(question);
  const terms = termsOf(question).length;
  const hints = terms === 0 || followUp.test(question) ? earlierQuestions.slice(-2) : [];
  const statements = conversation.statements.filter(({ source, text }) => {
    if (source === "assistant" || /[?\uff1f]\s*$/.test(text)) return false;
    return source !== "user" || (telling.test(text) && !isInstruction(text));
  });
  const told = earlierAnswers.join("\n");
  const ranker = createRanker(statements);
  // A follow-up's own words must match too: "And fever?" is not answered by the pain that was asked for before.
  const matching = new Set(ranker(question).map(({ at }) => at));
  const ranked = ranker(question, hints)
    .filter(({ at }) => terms === 0 || matching.has(at))
    .map((one) => {
      const repeated = told.includes(bare(voiced(one.statement, scene))) ? 0.6 : 1;
      const own = one.statement.source !== "user" ? 1 : ofMe && !scene.persona ? 1.3 : 0.6;
      const aside = scene.persona && isBeside(question, one.statement) ? 0.3 : 1;
      return { ...one, score: one.score * repeated * own * aside };
    })
    .toSorted((a, b) => b.score - a.score);
  const least = hints.length > 0 ? COVERAGE_MIN / 2 : COVERAGE_MIN;
  const fitting = ranked.filter(
    ({ coverage, sharesConcept }) => coverage >= (sharesConcept ? COVERAGE_MIN / 3 : least),
  );
  const best = fitting[0];
  if (best === undefined) return null;
  const chosen = chooseFrom(fitting, best, question);
  const text = joined(chosen.map((statement) => voiced(statement, scene)));
  const sure = chosen.length === 1 ? verdict(question, best, scene) : "";
  return sure === "" || text.startsWith(asFor) ? text : `${sure}${withinSentence(text)}`;
}

/** It is about the family, or is what one fears and hopes, and the question is not. */
const isBeside = (question: string, { text, heading }: Statement): boolean =>
  (isOfOthers(text) && !isOfOthers(question)) || (isWish(`${heading} ${text}`) && !isWish(question));

/** Who one is tells what one does and where one lives, where nothing says it better. */
function whoOneIs(scene: Scene): string | null {
  const asked = conceptsOf(scene.conversation.question);
  const told = scene.persona ? identityOf(scene) : null;
  if (told === null) return null;
  const does = /\p{L}{4,}/u.test(told.replace(aboutName, " ").replace(aboutAge, " "));
  const lives = /\b(?:from|in|of|aus)\s+\p{Lu}|[省市州]|人[。,\uff0c]?$/u.test(told);
  return (asked.has("#occupation") && does) || (asked.has("#address") && lives) ? told : null;
}
const aboutName =
  /^(?:I am|My name is|Ich bin|Ich heiße|我是|我叫)\s*(?:(?:Mrs?|Ms|Frau|Herr|Dr)\.?\s+)?\p{L}+(?: \p{Lu}\p{L}+)*/u;
const aboutAge =
  /\b(?:years?|jahre|old|alt|aged?|male|female|woman|man|frau|mann|patient\p{L}*|from \p{L}+|in \p{L}+|aus \p{L}+)\b/giu;

/** As many as the question asks for, in the order in which they were said. */
function chooseFrom(ranked: readonly Ranked[], best: Ranked, question: string): Statement[] {
  const wide = detailed.test(question);
  const enough = wide ? 0.35 : 0.75;
  const count = wide ? SENTENCES_MAX : kindOf(question) === "other" ? 2 : 1;
  return ranked
    .filter(({ score }) => score >= enough * best.score)
    .slice(0, count)
    .toSorted((a, b) => a.at - b.at)
    .map(({ statement }) => statement);
}

const closedQuestion =
  /^\W*(?:(?:and|so|okay|ok|und|also)\W+)?(?:(?:do|does|did|is|are|was|were|have|has|had|can|could|will|would|any)\b|(?:hast|bist|nimmst|rauchst|trinkst|kannst|warst|hattest|\w+st) du\b|(?:haben|sind|nehmen|rauchen|trinken|können|waren|hatten|\w+en) sie\b|gibt es\b)/i;

/** "Yes, " or "No, " before an answer that covers a yes-or-no question; nothing where that is not sure. */
function verdict(question: string, best: Ranked, { language, persona }: Scene): string {
  if (best.statement.source === "context" || !persona) return "";
  if (!closedQuestion.test(question) || best.coverage < 0.65 || (language !== "en" && language !== "de")) return "";
  if (/\b(?:or|oder)\b/i.test(question) || wordsOf(question).some(isNegation)) return "";
  const { text } = best.statement;
  if (/[:\uff1a]\s*(?:no|none|nil)\W*$/i.test(text)) return "";
  const denies = wordsOf(text).some(isNegation);
  // Of "I don't smoke and drink wine" one half is denied: which one is not known.
  if (denies && /\b(?:and|but|und|aber)\b|[,;]/i.test(text)) return "";
  return `${denies ? phrasesOf(language).no : phrasesOf(language).yes}, `;
}

/** "The pain …" after "Yes, " begins small; names, nouns and "I" do not. */
const withinSentence = (text: string): string =>
  text.replace(/^\p{Lu}\p{Ll}+/u, (word) => (isStopWord(word.toLowerCase()) ? word.toLowerCase() : word));

/** A statement as this speaker says it. */
function voiced({ text, source }: Statement, { persona, described, language }: Scene): string {
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
const asFor = "As for ";
const unspeakable = /ing$|history|habits?|alcohol|tobacco/i;

const bare = (text: string): string => text.replace(/[.。\uff01\uff1f!?]+$/, "");

const telling =
  /\b(?:i am|i'm|i have|i live|i like|i was|i want|my \w+ (?:is|are)|ich (?:bin|habe|heiße|wohne|mag|war)|mein\w* \w+ (?:ist|sind))\b|^(?:我是|我叫|我有|我住|저는|제)/i;

/** Told something, and not asked. */
function acknowledgement({ conversation: { question }, language, persona, rng }: Scene): string | null {
  if (/[?\uff1f]/.test(question) || !telling.test(question) || persona) return null;
  return drawOne(rng, phrasesOf(language).noted);
}

function draft({ conversation: { question }, language, persona, rng }: Scene): string | null {
  return persona || !reporting.test(question) ? null : draftAbout(question, language, rng);
}
