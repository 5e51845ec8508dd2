// What a field's value may be drawn from, and the field as the finders see it. Shared by suggestions.ts and
// string-fields.ts; it holds no logic.
import type { Wanted } from "./schema/generate.ts";

export interface SuggestionSource {
  /** The last request, with what was given along. */
  readonly asked: string;
  /** What else was said, and what tools answered: looked at second. */
  readonly rest: string;
  /** The answer in words, for fields that want prose. */
  readonly reply: () => string;
  /** A field is bound to the n-th of several entities: "Paris" and "London" of two calls. */
  readonly entity: number;
  /** Optional fields are suggested only what is plainly meant for them: arguments of a function. */
  readonly sparse: boolean;
}

export interface Field extends Wanted {
  readonly words: readonly string[];
  /** The text is the request itself. */
  readonly first: boolean;
}
