// The metric families of vLLM as data: names, help texts and buckets as its 0.2x servers have them, so that dashboards,
// routers and autoscalers read the simulator unchanged. metrics.ts fills them; families that need a GPU's own parts
// (speculative decoding, KV transfer) are left out; caches that the simulator has none of stay at 0.

/** What the engine is doing now, and what it has done since the start. */
export interface EngineCounts {
  readonly running: number;
  readonly waiting: number;
  /** Of its KV blocks, 0 to 1. */
  readonly kvUsage: number;
  readonly preemptions: number;
  /** Tokens that were looked up in the prefix cache, and those that were there. */
  readonly cacheQueries: number;
  readonly cacheHits: number;
  /** Tokens of prompts that were computed, without those from the cache. */
  readonly prefillTokens: number;
  readonly generationTokens: number;
}

interface Read {
  readonly type: "gauge" | "counter";
  readonly help: string;
  read(now: EngineCounts): number;
}

/** Read from the engine at each scrape. */
export const readFamilies: Readonly<Record<string, Read>> = {
  "vllm:num_requests_running": {
    type: "gauge",
    help: "Number of requests in model execution batches.",
    read: (now) => now.running,
  },
  "vllm:num_requests_waiting": {
    type: "gauge",
    help: "Number of requests waiting to be processed.",
    read: (now) => now.waiting,
  },
  "vllm:kv_cache_usage_perc": {
    type: "gauge",
    help: "KV-cache usage. 1 means 100 percent usage.",
    read: (now) => now.kvUsage,
  },
  "vllm:prefix_cache_queries_total": {
    type: "counter",
    help: "Prefix cache queries, in terms of number of queried tokens.",
    read: (now) => now.cacheQueries,
  },
  "vllm:prefix_cache_hits_total": {
    type: "counter",
    help: "Prefix cache hits, in terms of number of cached tokens.",
    read: (now) => now.cacheHits,
  },
  "vllm:external_prefix_cache_queries_total": {
    type: "counter",
    help: "External prefix cache queries from KV connector cross-instance cache sharing, in terms of tokens.",
    read: () => 0,
  },
  "vllm:external_prefix_cache_hits_total": {
    type: "counter",
    help: "External prefix cache hits from KV connector cross-instance cache sharing, in terms of tokens.",
    read: () => 0,
  },
  "vllm:mm_cache_queries_total": {
    type: "counter",
    help: "Multi-modal cache queries, in terms of number of queried items.",
    read: () => 0,
  },
  "vllm:mm_cache_hits_total": {
    type: "counter",
    help: "Multi-modal cache hits, in terms of number of cached items.",
    read: () => 0,
  },
  "vllm:num_preemptions_total": {
    type: "counter",
    help: "Cumulative number of preemption from the engine.",
    read: (now) => now.preemptions,
  },
  "vllm:prompt_tokens_total": {
    type: "counter",
    help: "Number of prefill tokens processed.",
    read: (now) => now.prefillTokens + now.cacheHits,
  },
  "vllm:prompt_tokens_cached_total": {
    type: "counter",
    help: "Number of cached prompt tokens.",
    read: (now) => now.cacheHits,
  },
  "vllm:generation_tokens_total": {
    type: "counter",
    help: "Number of generation tokens processed.",
    read: (now) => now.generationTokens,
  },
};

const TTFT_S = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const PER_TOKEN_S = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const LATENCY_S = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];

interface Observed {
  readonly help: string;
  /** `lengths`: 1, 2, 5, 10, … up to the longest that the model takes. */
  readonly bounds: readonly number[] | "lengths";
}

/** Observed as things happen. */
export const observedFamilies = {
  "vllm:time_to_first_token_seconds": { help: "Histogram of time to first token in seconds.", bounds: TTFT_S },
  "vllm:inter_token_latency_seconds": { help: "Histogram of inter-token latency in seconds.", bounds: PER_TOKEN_S },
  "vllm:request_time_per_output_token_seconds": {
    help: "Histogram of time_per_output_token_seconds per request.",
    bounds: PER_TOKEN_S,
  },
  "vllm:e2e_request_latency_seconds": { help: "Histogram of e2e request latency in seconds.", bounds: LATENCY_S },
  "vllm:request_queue_time_seconds": {
    help: "Histogram of time spent in WAITING phase for request.",
    bounds: LATENCY_S,
  },
  "vllm:request_inference_time_seconds": {
    help: "Histogram of time spent in RUNNING phase for request.",
    bounds: LATENCY_S,
  },
  "vllm:request_prefill_time_seconds": {
    help: "Histogram of time spent in PREFILL phase for request.",
    bounds: LATENCY_S,
  },
  "vllm:request_decode_time_seconds": {
    help: "Histogram of time spent in DECODE phase for request.",
    bounds: LATENCY_S,
  },
  "vllm:iteration_tokens_total": {
    help: "Histogram of number of tokens per engine_step.",
    bounds: [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384],
  },
  "vllm:request_prompt_tokens": { help: "Number of prefill tokens processed.", bounds: "lengths" },
  "vllm:request_generation_tokens": { help: "Number of generation tokens processed.", bounds: "lengths" },
  "vllm:request_max_num_generation_tokens": {
    help: "Histogram of maximum number of requested generation tokens.",
    bounds: "lengths",
  },
  "vllm:request_params_n": { help: "Histogram of the n request parameter.", bounds: [1, 2, 5, 10, 20] },
  "vllm:request_params_max_tokens": { help: "Histogram of the max_tokens request parameter.", bounds: "lengths" },
} as const satisfies Record<string, Observed>;

export type ObservedName = keyof typeof observedFamilies;

/** 1, 2, 5, 10, 20, … up to `max`. */
export function oneTwoFive(max: number): number[] {
  const bounds: number[] = [];
  for (let power = 1; ; power *= 10) {
    for (const digit of [1, 2, 5]) {
      if (digit * power > max) return bounds;
      bounds.push(digit * power);
    }
  }
}
