// The contract of whoever counts the tokens of language models: a gateway counts in the database (usage.ts), an actor by
// a gateway (remote-ledger.ts). Called around each call (src/llm/metered.ts), in microseconds and never for a token.

/** What one call used. A call that was refused or failed before any token has zeros. */
export interface UsageEntry {
  readonly keyId: string;
  /** Id in the catalogue. */
  readonly model: string;
  readonly provider: string;
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Of the prompt tokens. */
  readonly cachedTokens: number;
}

/** A key's tokens of the present UTC day, as far as this process knows. */
export interface TokenQuota {
  readonly limit: number;
  /** Neither used nor reserved by calls under way. */
  readonly remaining: number;
  /** Seconds until midnight UTC, 1 to 86,400. */
  readonly resetS: number;
}

/** Tokens that are kept free for a call under way. */
export interface Reservation {
  /** After this reservation; null where this process does not know it. */
  readonly quota: TokenQuota | null;
  /** Gives back what the call did not use, and charges what it used beyond. To be called once, also for 0. */
  settle(tokens: number): void;
}

export interface Ledger {
  /**
   * Null for a key without a quota; `estimate` (tokens, prompt and answer) is asked otherwise. Throws
   * `insufficient_quota` where nothing is left of the day, `rate_limited` where calls under way hold the rest.
   */
  reserve(keyId: string, estimate: () => number): Reservation | null | Promise<Reservation | null>;
  /** Counts a call that has ended. Never throws. */
  record(entry: UsageEntry): void;
}
