// The contract between who wants a model's answer (OpenAI's routes, runners by `ctx.llm`) and who gets it: in a gateway
// over NATS from an actor (src/live), in an actor straight from its model server. Streams are pulled, never pushed:
// whoever does not read holds the server back.
import type { AppError } from "../errors.ts";
import type { LlmEndpoint, Target } from "../models/llm-models.ts";
import type { TokenQuota } from "../usage/ledger.ts";
import type { BodyReader } from "./http1/body-queue.ts";

/** A request's body, checked, in the client's words: encode.ts puts it into a target's. */
export type LlmBody =
  | { readonly kind: "json"; readonly value: Readonly<Record<string, unknown>> }
  | {
      readonly kind: "form";
      readonly fields: readonly (readonly [name: string, value: string])[];
      readonly file: { readonly name: string; readonly contentType: string; readonly bytes: Uint8Array };
    };

export interface LlmRequest {
  readonly endpoint: LlmEndpoint;
  /** Id or alias, as the client named it. */
  readonly model: string;
  readonly body: LlmBody;
  /** Fields of a JSON body for a target of kind `vllm`, in place of those of the same name; no other target gets them. */
  readonly vllm?: Readonly<Record<string, unknown>>;
  /** Server-sent events are wanted. */
  readonly stream: boolean;
  /** Usage in the stream was asked for (`stream_options.include_usage`); it is counted either way. */
  readonly streamUsage: boolean;
  /** Names the call in logs, and at the server. */
  readonly requestId: string;
  readonly keyId: string;
  /** Calls with the same value fall to the same variant of a model. */
  readonly stickyKey: string;
  /** Calls with the same value share a prefix, and go to the same GPU unless it is overloaded. Empty: none. */
  readonly affinity: string;
  /** Aborts the call, down to the server's socket. */
  readonly signal: AbortSignal;
  /** Told of each target before it is asked: who counts learns where a call was that its client gave up. */
  readonly onAsked?: (target: Target) => void;
}

export interface TokenUsage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Of the prompt tokens. */
  readonly cachedTokens: number;
}

export interface LlmEnd {
  readonly outcome: "finished" | "refused" | "cancelled" | "failed";
  /** As the server counted; of a call that was cut short as we counted, never nothing where tokens were made. */
  readonly usage: TokenUsage;
  /** The code of what failed after the answer had begun. */
  readonly error: AppError | null;
  /** From the call to the first content; null where none came. */
  readonly firstTokenMs: number | null;
}

/** Bytes that are pulled, by one reader. As much of a ReadableStream as an answer needs. */
export interface AnswerBody {
  getReader(): BodyReader;
  cancel(): Promise<void>;
}

export interface LlmAnswer {
  readonly target: Target;
  /** The server's: 200, or a 4xx that blames the request, with OpenAI's error as body. */
  readonly status: number;
  readonly contentType: string;
  /**
   * For a stream server-sent events in OpenAI's words: whole ones, `data: [DONE]` the last, of a chat or completion; of
   * sound and pictures without that end, and in pieces where they are large. Ends early with an AppError
   * (`upstream_failed`, `upstream_timeout`) and never silently. Cancelling it cancels the call.
   */
  readonly body: AnswerBody;
  /** Once the body has ended, failed or was cancelled. Never rejects. */
  readonly ended: Promise<LlmEnd>;
  /** What is left of the key's day, where it has a quota: for the `x-ratelimit-*-tokens` headers. */
  readonly quota?: TokenQuota;
}

export interface LlmCaller {
  /**
   * Resolves when the first content is there (of a stream, and of speech) or all of it (else): until then other targets
   * are tried.
   * Throws `unknown_model`, `model_overloaded`, `model_unavailable`, `upstream_failed`, `upstream_timeout`;
   * a metered caller (metered.ts) also `insufficient_quota` and `rate_limited`.
   */
  call(request: LlmRequest): Promise<LlmAnswer>;
}
