// What a process counts of its calls to language models: a gateway of live calls, an actor of those of its runners, so
// that the sum over all processes is the truth. The callers tell it (observer.ts). Labels are ids of the catalogue and
// words of ours; nothing is counted per token.
import type { Metrics } from "../metrics/metrics.ts";
import type { LlmEnd } from "./llm.ts";
import type { CallObserver } from "./observer.ts";

/** From an embedding to the longest answer (10 minutes). */
const DURATION_BOUNDS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600];
/** vLLM's own, without those above the time limit of a first token, so that its histogram and ours can be compared. */
const FIRST_TOKEN_BOUNDS_S = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
/** vLLM begins at 10 ms; a small model on a large GPU is quicker. */
const TOKEN_GAP_BOUNDS_S = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 20, 40,
];

export function createLlmMetrics(metrics: Metrics): CallObserver {
  const calls = new Map<string, number>();
  metrics.sampled({
    name: "millrace_live_calls",
    help: "Calls under way: live ones at a gateway, those of runners at an actor.",
    type: "gauge",
    read: () => [...calls].map(([model, value]) => ({ labels: [["model", model]], value })),
  });
  const { requests, duration, tokens } = callFamilies(metrics);
  const { firstToken, tokenGap, retries, fallbacks } = tryFamilies(metrics);
  const change = (model: string, by: number): void => void calls.set(model, (calls.get(model) ?? 0) + by);
  return {
    began: (model) => change(model, 1),
    retried: (model, why) => retries.of(model, why).add(),
    fellBack: (model) => fallbacks.of(model).add(),
    ended(model, endpoint, { outcome, usage, error, firstTokenMs }, { durationMs, tokenGapMs }) {
      change(model, -1);
      requests.of(model, endpoint, statuses[outcome] ?? error?.code ?? "failed").add();
      tokens.of(model, "prompt").add(usage.promptTokens);
      tokens.of(model, "completion").add(usage.completionTokens);
      tokens.of(model, "cached").add(usage.cachedTokens);
      if (outcome === "finished") duration.of(model, endpoint).observe(durationMs / 1_000);
      if (tokenGapMs === null) return;
      if (firstTokenMs !== null) firstToken.of(model).observe(firstTokenMs / 1_000);
      tokenGap.of(model).observe(tokenGapMs / 1_000);
    },
    refused(model, endpoint, code) {
      change(model, -1);
      requests.of(model, endpoint, code).add();
    },
  };
}

/** Of a failed call it is the code of its error. */
const statuses: Readonly<Record<LlmEnd["outcome"], string | null>> = {
  finished: "success",
  refused: "refused",
  cancelled: "cancelled",
  failed: null,
};

const callFamilies = (metrics: Metrics) => ({
  requests: metrics.counter({
    name: "ai_requests_total",
    help: "Calls that have ended: success, refused by the model server, cancelled by the client, or an error code.",
    labels: ["model", "endpoint", "status"],
  }),
  duration: metrics.histogram({
    name: "ai_request_duration_seconds",
    help: "Whole time of the calls that succeeded.",
    labels: ["model", "endpoint"],
    bounds: DURATION_BOUNDS_S,
  }),
  tokens: metrics.counter({
    name: "ai_tokens_total",
    help: "Tokens of all calls, aborted and failed ones too; cached ones are among the prompt's.",
    labels: ["model", "type"],
  }),
});

const tryFamilies = (metrics: Metrics) => ({
  firstToken: metrics.histogram({
    name: "ai_time_to_first_token_seconds",
    help: "From a call to the first content of its answer, of streams with two tokens or more.",
    labels: ["model"],
    bounds: FIRST_TOKEN_BOUNDS_S,
  }),
  tokenGap: metrics.histogram({
    name: "ai_inter_token_latency_seconds",
    help: "Mean time between the tokens of a stream, once a call.",
    labels: ["model"],
    bounds: TOKEN_GAP_BOUNDS_S,
  }),
  retries: metrics.counter({
    name: "ai_retries_total",
    help: "Tries that brought no content and were followed by another: failed, overloaded or unauthorized.",
    labels: ["model", "reason"],
  }),
  fallbacks: metrics.counter({
    name: "ai_fallbacks_total",
    help: "Calls that another model answered than the one that was asked for.",
    labels: ["model"],
  }),
});
