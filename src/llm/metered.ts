// A caller whose calls are counted, and kept within the quota of their key: tokens are reserved before a call and
// settled after it, once, however many servers were tried. Wrapped around the caller of a gateway and of an actor's
// runners; it costs microseconds a call, nothing a token, and never cuts an answer.
import { asAppError } from "../errors.ts";
import type { LlmModels, Target } from "../models/llm-models.ts";
import type { Ledger, Reservation } from "../usage/ledger.ts";
import { estimatePromptTokens } from "./estimate.ts";
import type { LlmAnswer, LlmCaller, LlmEnd, LlmRequest } from "./llm.ts";
import type { CallObserver } from "./observer.ts";
import { CALL_TOKENS_MAX } from "./usage-count.ts";

/** Whoever counts calls: what is refused here, no caller hears of. */
export interface Refusals {
  readonly models: Pick<LlmModels, "resolve">;
  readonly observer: Pick<CallObserver, "began" | "refused">;
}

/** The caller, which then also throws `insufficient_quota` and `rate_limited` before it calls. */
export function meter(caller: LlmCaller, ledger: Ledger, refusals?: Refusals): LlmCaller {
  return {
    async call(request) {
      const reservation = await reserved(ledger, request).catch((error) => {
        tellRefusal(refusals, request, error);
        throw error;
      });
      const answer = await asked(caller, request, ledger, reservation);
      settleAtEnd(ledger, reservation, request.keyId, answer);
      return reservation?.quota ? { ...answer, quota: reservation.quota } : answer;
    },
  };
}

const reserved = async (ledger: Ledger, request: LlmRequest): Promise<Reservation | null> =>
  ledger.reserve(request.keyId, () => estimateTokens(request));

/** A name that is no model's is told by the caller, or by nobody: it must not become a label of metrics. */
function tellRefusal(refusals: Refusals | undefined, { model, endpoint }: LlmRequest, error: unknown): void {
  const id = refusals?.models.resolve(model, endpoint)?.id;
  if (id === undefined) return;
  refusals?.observer.began(id, endpoint);
  refusals?.observer.refused(id, endpoint, asAppError(error)?.code ?? "internal", 0);
}

/**
 * The answer. A call without one costs nothing, unless its client gave it up while a server was at it: the prompt at
 * least was read, and what was made of it nobody tells. Else whoever leaves early works a GPU for nothing.
 */
async function asked(
  caller: LlmCaller,
  request: LlmRequest,
  ledger: Ledger,
  reservation: Reservation | null,
): Promise<LlmAnswer> {
  let target: Target | null = null;
  const onAsked = (one: Target): void => {
    target = one;
  };
  try {
    return await caller.call({ ...request, onAsked });
  } catch (error) {
    const worked = request.signal.aborted ? (target as Target | null) : null;
    const promptTokens = worked ? estimatePromptTokens(request.body) : 0;
    if (worked) {
      const { keyId } = request;
      const { model, provider } = worked;
      ledger.record({ keyId, model, provider, promptTokens, completionTokens: 0, cachedTokens: 0 });
    }
    reservation?.settle(promptTokens);
    throw error;
  }
}

/** Apart: what it holds lives as long as the answer, and the request's body must not. */
function settleAtEnd(ledger: Ledger, reservation: Reservation | null, keyId: string, answer: LlmAnswer): void {
  const { target } = answer;
  void answer.ended.then((end) => settle(ledger, reservation, keyId, target, end));
}

function settle(
  ledger: Ledger,
  reservation: Reservation | null,
  keyId: string,
  target: Target,
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
