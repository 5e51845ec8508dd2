// Answers a question in words from the conversation alone: persona, documents and earlier turns, ranked by how well they
// fit, in the persona's first person. Called by answer.ts; where nothing fits it says so, and it never tells the prompt.
import { drawOne, type Rng } from "../rng.ts";
import { arithmeticIn } from "./arithmetic.ts";
import { draftAbout } from "./draft.ts";
import { phrasesOf } from "./language.ts";
import { besideOf, lead, whoOneIs } from "./leads.ts";
import { createRanker, kindOf, type Ranked } from "./rank.ts";
import { smallTalk } from "./small-talk.ts";
import { asFor, bare, type Scene, sceneOf, voiced } from "./speaker.ts";
import { type Conversation, isInstruction, type Statement, sentencesOf } from "./statements.ts";
import { joined, summarise, summaryWishOf } from "./summary.ts";
import { isNegation, isStopWord, termsOf, wordsOf } from "./words.ts";

/** Below it a statement shares a word with the question, and does not answer it. */
const COVERAGE_MIN = 0.3;
const SENTENCES_MAX = 5;

/** The answer, or an honest word that there is none. */
export function composeReply(conversation: Conversation, rng: Rng): string {
  const scene = sceneOf(conversation, rng);
  const answer = answerIn(scene);
  const phrases = phrasesOf(scene.language);
  return answer ?? drawOne(rng, scene.persona ? phrases.unsure : phrases.unknown);
}

/** What answers the question, null where nothing does: for fields that want prose. */
export const findAnswer = (conversation: Conversation, rng: Rng): string | null => answerIn(sceneOf(conversation, rng));

function answerIn(scene: Scene): string | null {
  for (const reply of [smallTalk, refusal, sum, extract, lead, found, whoOneIs, acknowledgement, draft]) {
    const text = reply(scene);
    if (text !== null && text !== "") return text;
  }
  return null;
}

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

const detailed =
  /\b(?:describe|explain|tell me (?:more|about|everything)|everything|details?|list|all (?:the|your|of)|erzähl\w*|beschreib\w*|erklär\w*|alles|genau)\b|详细|介绍|说说|哪些|都有|자세히|설명/i;
const listing = /[,，、]|\b(?:and|or|und|oder)\b/i;
/** "And in London?", "那上海呢？": it goes on with what was asked before. */
export const followUp =
  /^\W*(?:and|or|but|so|what about|how about|und|oder|aber)\b|^(?:那|그럼|그러면|그리고)|呢[?\uff1f]?$/i;

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
  const isBeside = scene.persona ? besideOf(question) : () => false;
  const ranker = createRanker(statements);
  // A follow-up's own words must match too: "And fever?" is not answered by the pain that was asked for before.
  const matching = new Set(ranker(question).map(({ at }) => at));
  const ranked = ranker(question, hints)
    .filter(({ at }) => terms === 0 || matching.has(at))
    .map((one) => {
      const repeated = told.includes(bare(voiced(one.statement, scene))) ? 0.6 : 1;
      const own = one.statement.source !== "user" ? 1 : ofMe && !scene.persona ? 1.3 : 0.6;
      const aside = isBeside(one.statement) ? 0.3 : 1;
      return { ...one, score: one.score * repeated * own * aside };
    })
    .toSorted((a, b) => b.score - a.score);
  // Of a list of matters a statement is about one.
  const perMatter = Math.min(COVERAGE_MIN, 1 / question.split(listing).length);
  const least = hints.length > 0 ? COVERAGE_MIN / 2 : perMatter;
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
  // Of "I don't smoke and drink wine" one half is denied: which one is not known. Who tolerates none is allergic.
  if (denies && /\b(?:and|but|und|aber|vertr[aä]g\w*)\b|[,;]/i.test(text)) return "";
  return `${denies ? phrasesOf(language).no : phrasesOf(language).yes}, `;
}

/** "The pain …" after "Yes, " begins small; names, nouns and "I" do not. */
const withinSentence = (text: string): string =>
  text.replace(/^\p{Lu}\p{Ll}+/u, (word) => (isStopWord(word.toLowerCase()) ? word.toLowerCase() : word));

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
