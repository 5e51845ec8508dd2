// What a caller tells of its calls while they go on, for metrics. The LLM callers (local-caller.ts, src/live) call it; it
// must never throw and never wait. Nothing is told per token: what a call had is in its LlmEnd.
import type { LlmEndpoint, TryOutcome } from "../models/llm-models.ts";
import type { LlmEnd } from "./llm.ts";

/** `model` is always an id of the catalogue, never a client's word. */
export interface CallObserver {
  /** A call of a known model; `ended` or `refused` follows exactly once. */
  began(model: string, endpoint: LlmEndpoint): void;
  /** A try went wrong before any content, and another follows. `why` is never `ok`. */
  retried(model: string, why: TryOutcome): void;
  /** The answer comes from another model than the one that was asked for. */
  fellBack(model: string, answering: string): void;
  /**
   * The call is over. `tokenGapMs` is the mean time between the tokens of a stream; null for other answers and for less
   * than two tokens. `durationMs` is the whole call.
   */
  ended(model: string, endpoint: LlmEndpoint, end: LlmEnd, times: CallTimes): void;
  /** The call ended without an answer: `code` is the error's, `cancelled` where the client left. */
  refused(model: string, endpoint: LlmEndpoint, code: string, durationMs: number): void;
}

export interface CallTimes {
  readonly durationMs: number;
  readonly tokenGapMs: number | null;
}

export const silentObserver: CallObserver = {
  began: () => {},
  retried: () => {},
  fellBack: () => {},
  ended: () => {},
  refused: () => {},
};
