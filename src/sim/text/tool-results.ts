// Tells in words what tools have answered. Called by answer.ts after tool messages; it adds nothing of its own, and a
// result that is an error is told as one.
import { flat } from "./data-lines.ts";
import { rank } from "./rank.ts";
import { type Statement, sentencesOf } from "./statements.ts";
import { joined } from "./summary.ts";

const SENTENCES_MAX = 6;
const FIELDS_MAX = 12;
const RESULT_CHARS_MAX = 20_000;

/** One paragraph a result; of a long text what fits the question best. */
export function tellResults(results: readonly string[], question: string): string {
  return results.map((result) => tell(result.slice(0, RESULT_CHARS_MAX), question)).join("\n");
}

function tell(result: string, question: string): string {
  const data = parsed(result);
  if (data === undefined) return tellText(result, question);
  if (data === null || (typeof data === "object" && Object.keys(data).length === 0)) return "The tool found nothing.";
  if (typeof data !== "object") return tellText(String(data), question);
  const fields = flat(data);
  const told = fields.slice(0, FIELDS_MAX).join(", ");
  return joined([fields.length > FIELDS_MAX ? `${told}, and ${fields.length - FIELDS_MAX} more` : told]);
}

function tellText(text: string, question: string): string {
  const sentences = sentencesOf(text);
  if (sentences.length === 0) return text.trim() === "" ? "The tool found nothing." : text.trim();
  if (sentences.length <= SENTENCES_MAX) return joined(sentences);
  const ranked = rank(
    question,
    sentences.map((sentence): Statement => ({ text: sentence, source: "tool", heading: "", turn: 0 })),
  );
  const best = ranked
    .slice(0, 3)
    .toSorted((a, b) => a.at - b.at)
    .map(({ statement }) => statement.text);
  return joined(best.length > 0 ? best : sentences.slice(0, 3));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
