// The text of a task that a search looks at: made once, when its row is written, and compared with what a client asks
// for. Pure. It bounds what a row grows by; a search must never have to read an input again.

/** Characters kept of an input or an error. A million tasks cost at most 4 GB so, and usually a tenth of it. */
const SEARCH_CHARS_MAX = 4_000;

/**
 * Every string and number in `value`, in order and without the names of fields, in lower case and with single spaces,
 * cut after 4,000 characters. Empty for an input that is not here because it travels by reference.
 */
export function searchText(value: unknown): string {
  const found: string[] = [];
  let left = SEARCH_CHARS_MAX;
  const walk = (part: unknown): void => {
    if (left <= 0) return;
    if (typeof part === "string" || typeof part === "number") {
      const text = String(part).slice(0, left);
      found.push(text);
      left -= text.length + 1;
    } else if (typeof part === "object" && part !== null) {
      for (const inner of Object.values(part)) walk(inner);
    }
  };
  walk(value);
  return normalized(found.join(" ")).slice(0, SEARCH_CHARS_MAX).toWellFormed();
}

/** The words that `query` asks for, as they stand in a text above. */
export const searchWords = (query: string): readonly string[] =>
  normalized(query)
    .split(" ")
    .filter((word) => word !== "");

/** NUL is a control character that PostgreSQL does not store. */
const normalized = (text: string): string =>
  text
    .toLowerCase()
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is replaced
    .replace(/[\s\u0000-\u001f]+/g, " ");
