// The tokens of one answer: as its server counts them, and as we do while they pass, for answers that are cut short.
// upstream.ts and src/live count with it. It never counts less than has passed.
import type { TokenUsage } from "./llm.ts";

export const noUsage: TokenUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };

/** OpenAI's `usage` object; null for anything else, and for numbers that no call can have. Embeddings have no completion tokens, older servers no details. */
export function usageOf(value: unknown): TokenUsage | null {
  if (typeof value !== "object" || value === null) return null;
  const { prompt_tokens, completion_tokens, input_tokens, output_tokens, prompt_tokens_details } = value as Record<
    string,
    unknown
  >;
  const prompt = prompt_tokens ?? input_tokens;
  if (!isCount(prompt)) return null;
  const completion = completion_tokens ?? output_tokens;
  const cached = (prompt_tokens_details as { cached_tokens?: unknown } | null | undefined)?.cached_tokens;
  return {
    promptTokens: prompt,
    completionTokens: isCount(completion) ? completion : 0,
    cachedTokens: isCount(cached) ? Math.min(cached, prompt) : 0,
  };
}

/** Far above any context: a server that says more knows nothing, and must not break the sums of others. */
export const CALL_TOKENS_MAX = 100_000_000;

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= CALL_TOKENS_MAX;

export class UsageCount {
  #server: TokenUsage | null = null;
  #passed = 0;
  readonly #promptEstimate: number;

  /** `promptEstimate` stands for the prompt where tokens came and the server's own count did not. */
  constructor(promptEstimate: number) {
    this.#promptEstimate = promptEstimate;
  }

  /** Tokens that have passed so far. */
  get passed(): number {
    return this.#passed;
  }

  pass(tokens: number): void {
    this.#passed += tokens;
  }

  told(usage: TokenUsage): void {
    this.#server = usage;
  }

  usage(): TokenUsage {
    const server = this.#server;
    if (server) return { ...server, completionTokens: Math.max(server.completionTokens, this.#passed) };
    if (this.#passed === 0) return noUsage;
    return { promptTokens: this.#promptEstimate, completionTokens: this.#passed, cachedTokens: 0 };
  }
}
