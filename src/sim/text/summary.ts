// Extracts of a text: the sentences that say most of it, in their order, as a paragraph, a list or under asked-for
// headings. Called by reply.ts for summaries and report sections; it adds nothing that the text does not say.
import { createRanker } from "./rank.ts";
import { type Statement, sentencesOf } from "./statements.ts";
import { termsOf } from "./words.ts";

const SENTENCES_MAX = 12;
/** Longer texts are sampled by their beginning: a summary looks at no more. */
const LOOKED_AT_MAX = 2000;

/** What is asked for: how many sentences, in what form, under which headings. */
export interface SummaryWish {
  readonly sentences: number | null;
  readonly words: number | null;
  readonly list: boolean;
  readonly headings: readonly string[];
}

const numbers: Readonly<Record<string, number>> = {
  one: 1,
  a: 1,
  two: 2,
  three: 3,
  four: 4,
  five: 5,
  six: 6,
  einem: 1,
  zwei: 2,
  drei: 3,
  vier: 4,
  fünf: 5,
  一: 1,
  两: 2,
  三: 3,
  四: 4,
  五: 5,
};

export function summaryWishOf(question: string): SummaryWish {
  const counted = (pattern: RegExp): number | null => {
    const found = pattern.exec(question)?.[1]?.toLowerCase();
    return found === undefined ? null : (numbers[found] ?? (Number(found) || null));
  };
  const headings =
    /(?:sections?|headings?|abschnitten?|überschriften)\s*(?:are|named|called|:)?\s*:?\s*([^.\n]+)|(?:章节|包括|分为)[:\uff1a]?\s*([^。\n]+)/i.exec(
      question,
    );
  return {
    sentences:
      counted(
        /\b(\d+|one|a|two|three|four|five|six|einem|zwei|drei|vier|fünf)[ -](?:short )?(?:sentences?|bullet|points?|s[aä]tze?n?|stichpunkte)/i,
      ) ?? counted(/([一两三四五\d])\s*(?:句|点|条)/),
    words: counted(/\b(\d+)\s+(?:words|wörtern?|worten)/i),
    list: /bullet|as a list|stichpunkt|aufzählung|要点|列表|逐条/i.test(question),
    headings: (headings?.[1] ?? headings?.[2] ?? "")
      .split(/\s*(?:,|、|;|\band\b|\bund\b|和)\s*/)
      .map((name) => name.replace(/["'“”„`]/g, "").trim())
      .filter((name) => name !== "" && name.length < 60),
  };
}

export function summarise(text: string, wish: SummaryWish): string {
  const sentences = sentencesOf(text).slice(0, LOOKED_AT_MAX);
  if (wish.headings.length > 1) return underHeadings(sentences, wish.headings);
  const wanted = wish.sentences ?? Math.min(6, Math.max(1, Math.ceil(sentences.length / 3)));
  const chosen = central(sentences, Math.min(SENTENCES_MAX, wanted));
  const shortened = wish.words === null ? chosen : withinWords(chosen, wish.words);
  return wish.list ? shortened.map((sentence) => `- ${sentence}`).join("\n") : joined(shortened);
}

/** By how much of the text's words a sentence holds; the first one opens a text for a reason. */
function central(sentences: readonly string[], count: number): string[] {
  const termsBySentence = sentences.map(termsOf);
  const frequency = new Map<string, number>();
  for (const terms of termsBySentence)
    for (const term of new Set(terms)) frequency.set(term, (frequency.get(term) ?? 0) + 1);
  const scores = termsBySentence.map((terms, at) => {
    const sum = [...new Set(terms)].reduce((total, term) => total + Math.log(1 + (frequency.get(term) ?? 0)), 0);
    return { at, score: (sum / Math.sqrt(terms.length + 4)) * (at === 0 ? 1.3 : 1) };
  });
  const best = scores
    .toSorted((a, b) => b.score - a.score)
    .slice(0, count)
    .map(({ at }) => at);
  return best.toSorted((a, b) => a - b).map((at) => sentences[at] ?? "");
}

function withinWords(sentences: readonly string[], wordsMax: number): string[] {
  const kept: string[] = [];
  let left = wordsMax;
  for (const sentence of sentences) {
    left -= sentence.split(/\s+/).length;
    if (left < 0 && kept.length > 0) break;
    kept.push(sentence);
  }
  return kept;
}

/** What headings of reports ask for, whatever the text is about. */
const overview = /summary|overview|introduction|abstract|zusammenfassung|überblick|摘要|概述/i;
const advice = /recommend|plan\b|next steps?|conclusion|empfehlung|vorgehen|建议/i;
const advises = /\b(?:should|must|recommend\w*|advis\w*|plan\w*|take|return|soll\w*|muss|empfehl\w*)\b|建议|应/i;

/**
 * Each sentence stands under the heading that it suits best; what suits none goes under the first one that is free. An
 * overview says the gist again; a heading that nothing is left for says so.
 */
function underHeadings(sentences: readonly string[], headings: readonly string[]): string {
  const statements = sentences.map((text): Statement => ({ text, source: "context", heading: "", turn: 0 }));
  const ranker = createRanker(statements);
  const byHeading = headings.map((heading) => new Map(ranker(heading).map(({ at, score }) => [at, score])));
  const suits = (at: number): number => {
    const scores = byHeading.map((scoreOf) => scoreOf.get(at) ?? 0);
    const best = Math.max(...scores);
    if (best > 0) return scores.indexOf(best);
    return advises.test(sentences[at] ?? "") ? headings.findIndex((heading) => advice.test(heading)) : -1;
  };
  const places = sentences.map((_, at) => suits(at));
  const spare = headings.findIndex((heading, own) => !places.includes(own) && !overview.test(heading));
  const sections = headings.map((heading, own) => {
    const suited = sentences.filter((_, at) => places[at] === own || (places[at] === -1 && own === spare));
    const said = suited.length === 0 && overview.test(heading) ? central(sentences, 2) : suited;
    return `## ${heading}\n${said.length > 0 ? joined(said) : "—"}`;
  });
  return sections.join("\n\n");
}

/** Sentences side by side, each with its full stop. */
export function joined(sentences: readonly string[]): string {
  return sentences
    .map((sentence) =>
      /[.!?。\uff01\uff1f…:]["')”」]?$/.test(sentence)
        ? sentence
        : `${sentence}${/\p{Script=Han}[^\p{L}]*$/u.test(sentence) ? "。" : "."}`,
    )
    .reduce(
      (text, sentence) =>
        text === "" ? sentence : /[。\uff01\uff1f]$/.test(text) ? text + sentence : `${text} ${sentence}`,
      "",
    );
}
