// The holder of a valid key, and what it may do. Routes name the scope they need; no scope holds another.
import { AppError } from "../errors.ts";

export const scopes = ["tasks:read", "tasks:write", "admin", "metrics"] as const;
export type Scope = (typeof scopes)[number];

export const isScope = (text: string): text is Scope => (scopes as readonly string[]).includes(text);

export interface Principal {
  /** Owns the tasks and stands in logs: `mr_…` for a stored key, else the name in API_KEYS. */
  readonly keyId: string;
  readonly scopes: ReadonlySet<Scope>;
  /** Requests a minute; null: as the gateway's configuration says; 0: no limit. */
  readonly ratePerMinute: number | null;
  /** Tokens of language models in a UTC day; null: as the gateway's configuration says; 0: no limit. */
  readonly tokensPerDay: number | null;
  /** A stored key has 190 random bits; one of API_KEYS may be anything that a person made up. */
  readonly stored: boolean;
}

/** Throws `forbidden` where the key lacks the scope. */
export function requireScope(principal: Principal, scope: Scope): void {
  if (!principal.scopes.has(scope)) throw new AppError("forbidden", `This key lacks the scope ${scope}.`);
}
