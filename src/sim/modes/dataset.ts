// Answers from a file: a JSONL of prompts and what to say to them, read when the simulator starts. The mode `dataset`
// asks it for each text. The same question and seed get the same answer.
import { isRecord } from "../chat-request.ts";
import { drawOne, type Rng } from "../rng.ts";
import { SettingsError } from "../settings-error.ts";
import { termsOf } from "../text/words.ts";

export interface Dataset {
  /**
   * The answer of the row whose prompt is the question; of several one by the seed. Else of the row that is nearest by
   * its words, where it is near enough; else of any row, by the seed.
   */
  answerTo(question: string, rng: Rng): string;
}

const BYTES_MAX = 64 * 1024 * 1024;
const ROWS_MAX = 100_000;
/** No context holds more. */
const TEXT_CHARS_MAX = 1_000_000;
/** Cosine of the words of two texts, rare ones counting more. Below it they speak of different things. */
const NEAR_MIN = 0.5;
/** A question is known by its beginning. */
const TERMS_MAX = 200;

interface Row {
  readonly prompt: string;
  readonly answer: string;
}

/** Throws SettingsError with the path and the line. */
export async function loadDataset(path: string): Promise<Dataset> {
  const file = Bun.file(path);
  if (file.size > BYTES_MAX) throw new SettingsError(`${path} has more than ${BYTES_MAX} bytes`);
  const text = await file.text().catch(() => {
    throw new SettingsError(`the dataset ${path} cannot be read`);
  });
  return createDataset(parseRows(text, path));
}

function parseRows(text: string, path: string): Row[] {
  const rows: Row[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const fail = (message: string): never => {
      throw new SettingsError(`${path}:${index + 1}: ${message}`);
    };
    if (rows.length === ROWS_MAX) fail(`there may be at most ${ROWS_MAX} rows`);
    const row = parsed(line) ?? fail("is no JSON");
    if (!isRecord(row)) return fail("must be an object with prompt and answer");
    const { prompt, answer } = row;
    if (!isText(prompt)) return fail(`prompt must be a text of at most ${TEXT_CHARS_MAX} characters`);
    if (!isText(answer)) return fail(`answer must be a text of at most ${TEXT_CHARS_MAX} characters`);
    rows.push({ prompt: prompt.trim(), answer });
  }
  if (rows.length === 0) throw new SettingsError(`${path} has no rows`);
  return rows;
}

const isText = (value: unknown): value is string =>
  typeof value === "string" && value.trim() !== "" && value.length <= TEXT_CHARS_MAX;

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function createDataset(rows: readonly Row[]): Dataset {
  const exact = Map.groupBy(rows, ({ prompt }) => prompt);
  const nearest = createIndex(rows.map(({ prompt }) => prompt));
  return {
    answerTo(question, rng) {
      const same = exact.get(question.trim());
      if (same !== undefined) return drawOne(rng, same).answer;
      const near = rows[nearest(question)];
      return near === undefined ? drawOne(rng, rows).answer : near.answer;
    },
  };
}

/** Finds the place of the text that is nearest; -1 where none is near. Of equals the first. */
function createIndex(texts: readonly string[]): (text: string) => number {
  const places = new Map<string, number[]>();
  const termsAt = texts.map((text) => distinctTerms(text));
  for (const [at, terms] of termsAt.entries()) {
    for (const term of terms) {
      const found = places.get(term);
      if (found) found.push(at);
      else places.set(term, [at]);
    }
  }
  /** A word of one text says more than a word of all. */
  const weightOf = (term: string): number => Math.log(1 + texts.length / (places.get(term)?.length ?? 1)) ** 2;
  const lengthOf = (terms: readonly string[]): number =>
    Math.sqrt(terms.reduce((sum, term) => sum + weightOf(term), 0));
  const lengths = Float64Array.from(termsAt, lengthOf);
  return (text) => {
    const terms = distinctTerms(text);
    const shared = new Float64Array(texts.length);
    for (const term of terms) {
      const weight = weightOf(term);
      for (const at of places.get(term) ?? []) shared[at] = (shared[at] ?? 0) + weight;
    }
    const length = lengthOf(terms);
    let best = -1;
    let bestScore = 0;
    for (let at = 0; at < shared.length; at++) {
      const score = (shared[at] ?? 0) / (length * (lengths[at] ?? 1));
      if (score > bestScore) [best, bestScore] = [at, score];
    }
    return bestScore >= NEAR_MIN ? best : -1;
  };
}

const distinctTerms = (text: string): string[] => [...new Set(termsOf(text))].slice(0, TERMS_MAX);
