// A caller whose calls are counted, and kept within the quota of their key: tokens are reserved before a call and
// settled after it, once, however many servers were tried. Wrapped around the caller of a gateway and of an actor's
// runners; it costs microseconds a call, nothing a token, and never cuts an answer.
import type { Ledger, Reservation } from "../usage/ledger.ts";
import { estimatePromptTokens } from "./estimate.ts";
import type { LlmAnswer, LlmCaller, LlmEnd, LlmRequest } from "./llm.ts";
import { CALL_TOKENS_MAX } from "./usage-count.ts";

/** The caller, which then also throws `insufficient_quota` and `rate_limited` before it calls. */
export function meter(caller: LlmCaller, ledger: Ledger): LlmCaller {
  return {
    async call(request) {
      const { keyId } = request; // alone: the body must not stay for as long as the answer
      const asked = ledger.reserve(keyId, () => estimateTokens(request));
      const reservation = asked instanceof Promise ? await asked : asked;
      let answer: LlmAnswer;
      try {
        answer = await caller.call(request);
      } catch (error) {
        reservation?.settle(0);
        throw error;
      }
      void answer.ended.then((end) => settle(ledger, reservation, keyId, answer, end));
      return reservation?.quota ? { ...answer, quota: reservation.quota } : answer;
    },
  };
}

function settle(
  ledger: Ledger,
  reservation: Reservation | null,
  keyId: string,
  { target }: LlmAnswer,
  { usage }: LlmEnd,
): void {
  const promptTokens = plausible(usage.promptTokens);
  const completionTokens = plausible(usage.completionTokens);
  const cachedTokens = Math.min(promptTokens, plausible(usage.cachedTokens));
  ledger.record({
    keyId,
    model: target.model,
    provider: target.provider,
    promptTokens,
    completionTokens,
    cachedTokens,
  });
  reservation?.settle(promptTokens + completionTokens);
}

const plausible = (tokens: number): number =>
  Number.isSafeInteger(tokens) && tokens > 0 ? Math.min(tokens, CALL_TOKENS_MAX) : 0;

/** Of an answer that no max_tokens bounds: an ordinary one. */
const ANSWER_TOKENS = 1_024;
/** OpenAI's and vLLM's own default for /v1/completions. */
const COMPLETION_TOKENS = 16;

/** What a call may use: its prompt, and what it lets each of its answers have. */
export function estimateTokens({ endpoint, body }: LlmRequest): number {
  const prompt = estimatePromptTokens(body);
  if (body.kind !== "json" || (endpoint !== "chat/completions" && endpoint !== "completions")) return prompt;
  const { max_completion_tokens, max_tokens, n, best_of } = body.value;
  const fallback = endpoint === "completions" ? COMPLETION_TOKENS : ANSWER_TOKENS;
  const each = count(max_completion_tokens) ?? count(max_tokens) ?? fallback;
  return prompt + each * Math.max(count(n) ?? 1, count(best_of) ?? 1);
}

const count = (value: unknown): number | null => (typeof value === "number" && value >= 0 ? value : null);
