// Counts what an answer has cost, for its `usage` object: at the end, or on every chunk where that was asked for.

export interface AnswerUsage {
  /** How many prompt tokens of a choice came from the cache. */
  cached(choice: number, tokens: number): void;
  /** How many tokens of a choice have been sent. */
  sent(choice: number, tokens: number): void;
  /** The JSON of the `usage` object. */
  json(): string;
}

/** `n` choices for each prompt, one prompt after the other. */
export function countUsage(promptTokens: number, prompts: number, n: number): AnswerUsage {
  const cached = new Array<number>(prompts).fill(0);
  const sent = new Array<number>(prompts * n).fill(0);
  const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
  return {
    cached(choice, tokens) {
      // The other choices of a prompt find what the first one has left.
      if (choice % n === 0) cached[choice / n] = tokens;
    },
    sent(choice, tokens) {
      sent[choice] = tokens;
    },
    json() {
      const completion = sum(sent);
      return (
        `{"prompt_tokens":${promptTokens},"total_tokens":${promptTokens + completion},` +
        `"completion_tokens":${completion},"prompt_tokens_details":{"cached_tokens":${sum(cached)}}}`
      );
    },
  };
}
