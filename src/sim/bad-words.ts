// `bad_words`: what a text says without certain words. vLLM keeps the model from making their tokens, and it says
// something else; here the words are left out, with what is glued to their ends. Called for each choice that has text.

/** Written without spaces, so that a word may begin and end anywhere. */
const unspaced = "\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Hangul}\\p{Script=Thai}";
const spacedLetter = `(?![${unspaced}])[\\p{L}\\p{M}\\p{N}]`;

/** Case matters, as it does for tokens. "mill" takes "mills" with it, and leaves "windmill". */
export function withoutWords(text: string, words: readonly string[]): string {
  const found = words.map(patternOf).join("|");
  return text.replace(new RegExp(`\\s?(?:${found})`, "gu"), "");
}

function patternOf(given: string): string {
  const word = given.trim();
  const begins = new RegExp(`^${spacedLetter}`, "u").test(word);
  const ends = new RegExp(`${spacedLetter}$`, "u").test(word);
  const before = begins ? `(?<!${spacedLetter})` : "";
  return `${before}${RegExp.escape(word)}${ends ? `(?:${spacedLetter})*` : ""}`;
}
