// One try at one server, as the loop over targets (attempts.ts) and the answer (answer.ts) see it: in an actor straight
// from the model server (upstream.ts), in a gateway over NATS (src/live/remote-call.ts). An answer is pulled; whoever
// does not read holds its server back.
import type { AppError } from "../errors.ts";
import type { Target, TryOutcome } from "../models/llm-models.ts";
import type { EncodedBody } from "./encode.ts";
import type { LlmRequest, TokenUsage } from "./llm.ts";

export interface Try {
  readonly target: Target;
  /** Which actor's server. */
  readonly actorId: string;
  readonly request: LlmRequest;
  readonly body: EncodedBody;
  /** Aborts this try, and no other. */
  readonly signal: AbortSignal;
  /** By `clock.monotonicMs`: nothing may last beyond it. */
  readonly deadlineMs: number;
}

/** An answer that has begun: the first content is there, or all of it where it is no stream and no speech. */
export interface TryAnswer {
  /** 200, or a 4xx that blames the request. */
  readonly status: number;
  readonly contentType: string;
  /**
   * The next bytes, of a stream of tokens whole events; null at the end. Throws `upstream_failed`, `upstream_timeout`. Not to be
   * called again before it has settled, nor after it threw.
   */
  read(): Promise<Uint8Array | null>;
  /** Closes the server's socket. Idempotent; `read` answers null or throws from then on. */
  cancel(): void;
  /** All of it has been read: only the null is left, for which a client need not wait. Unset: nobody knows. */
  readonly isComplete?: boolean;
  /** Whose fault it is that `read` has thrown; unset: the server's. */
  readonly blamed?: Blamed;
  /** So far; final when `read` has answered null or thrown. */
  usage(): TokenUsage;
}

/** Whose fault a failed try is. */
export type Blamed =
  /** It could not be reached, broke off or was too slow: another server may be reached by this actor. */
  | "server"
  /** Another actor may reach the same server. */
  | "actor"
  /** The server answered this request with an error of its own, as 500: its fault, or the request's. */
  | "unclear";

/** Why a try has no answer. `error` may be shown to the client. */
export class TryFailure extends Error {
  override readonly name = "TryFailure";
  readonly outcome: Exclude<TryOutcome, "ok">;
  readonly blamed: Blamed;
  readonly error: AppError;

  constructor(outcome: Exclude<TryOutcome, "ok">, error: AppError, blamed: Blamed = "server") {
    super(error.message, { cause: error });
    this.outcome = outcome;
    this.blamed = blamed;
    this.error = error;
  }
}
