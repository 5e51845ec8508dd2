// A transcription as a stream in vLLM's form: `transcription.chunk` events with deltas, [DONE] at the end. Called by
// audio.ts for a request with `stream`.
import type { Sender } from "./generate.ts";
import type { Plan } from "./plan.ts";

export interface TranscriptSenderOptions {
  readonly id: string;
  readonly model: string;
  readonly fingerprint: string;
  readonly plan: Plan;
  readonly promptTokens: number;
  readonly includeUsage: boolean;
  /** Usage on every chunk. */
  readonly continuousUsage: boolean;
}

export function transcriptSender(options: TranscriptSenderOptions): Sender {
  const { id, model, fingerprint, plan, promptTokens, includeUsage, continuousUsage } = options;
  const common = { id, object: "transcription.chunk", created: Math.floor(Date.now() / 1_000), model };
  const chunk = (rest: object): string => JSON.stringify({ ...common, system_fingerprint: fingerprint, ...rest });
  const usageAfter = (made: number): object => ({
    prompt_tokens: promptTokens,
    completion_tokens: made,
    total_tokens: promptTokens + made,
  });
  return {
    cached() {},
    events(_choice, from, to) {
      const content = plan.deltas
        .slice(from, to)
        .map(({ text }) => text)
        .join("");
      const finishReason = to === plan.pieces.length ? plan.finishReason : null;
      const choices = [{ delta: { content }, finish_reason: finishReason, stop_reason: null }];
      return [chunk({ choices, ...(continuousUsage && { usage: usageAfter(to) }) })];
    },
    lastEvents() {
      return includeUsage ? [chunk({ choices: [], usage: usageAfter(plan.pieces.length) })] : [];
    },
    whole: () => null, // a transcription that is no stream is answered without a sender
  };
}
