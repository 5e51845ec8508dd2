// What the simulator says at /metrics: vLLM's families, fed by the engine, and `sim_*` for what only a simulator has.
// The surface makes one and gives its observer to the engine. It decides nothing, and never grows with what clients
// send: its labels are the simulator's own words.
import type { Engine, EngineLoad, EngineObserver, GenerationSummary } from "./engine.ts";
import { Counts, expositionOf, type Family, Histogram, type Labels } from "./exposition.ts";
import { createHttpTraffic, type HttpTraffic } from "./http-traffic.ts";
import type { Profile } from "./profile.ts";
import type { Route } from "./routes.ts";
import type { ServerState } from "./server-state.ts";
import { type EngineCounts, type ObservedName, observedFamilies, oneTwoFive, readFamilies } from "./vllm-families.ts";

/** The engine at a scrape. */
export interface Scrape {
  readonly load: EngineLoad;
  readonly profile: Profile;
  readonly loras: ReturnType<Engine["loras"]>;
  readonly sleepState: ReturnType<ServerState["sleep"]["state"]>;
}

export interface SimMetrics {
  /** Of the engine; tokens go through it, so it does little. */
  readonly observer: EngineObserver;
  readonly traffic: HttpTraffic;
  /** What a request for text asks for; null where it says nothing. */
  asked(n: number, maxTokens: number | null): void;
  /** A fault's part, such as `cut`, was carried out. */
  injected(part: string): void;
  text(scrape: Scrape): string;
}

export interface SimMetricsOptions {
  readonly modelName: string;
  readonly modelLengthMax: number;
}

export const metricsRoutes = (state: ServerState): readonly Route[] => [
  {
    method: "GET",
    path: "/metrics",
    handle(_, { engine }) {
      const { metrics, sleep } = state;
      const scrape = {
        load: engine.load(),
        loras: engine.loras(),
        profile: engine.profile(),
        sleepState: sleep.state(),
      };
      const text = metrics.text(scrape);
      return new Response(text, { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } });
    },
  },
];

export function createSimMetrics({ modelName, modelLengthMax }: SimMetricsOptions): SimMetrics {
  const labels: Labels = { engine: "0", model_name: modelName };
  const lengths = oneTwoFive(modelLengthMax);
  const observed = Object.entries(observedFamilies).map(([name, { help, bounds }]) => {
    const histogram = new Histogram(bounds === "lengths" ? lengths : bounds);
    const family: Family = { name, help, type: "histogram", samples: () => histogram.samples(labels) };
    return { name, histogram, family };
  });
  const histograms = Object.fromEntries(observed.map(({ name, histogram }) => [name, histogram])) as Record<
    ObservedName,
    Histogram
  >;
  const ended = new Counts("vllm:request_success_total", "Count of successfully processed requests.");
  for (const reason of ["stop", "length", "abort", "error"]) ended.add({ ...labels, finished_reason: reason }, 0);
  const traffic = createHttpTraffic();
  const faults = new Counts("sim_faults_injected_total", "Parts of faults that were injected.");
  const { observer, counts } = observe(histograms, (reason) => ended.add({ ...labels, finished_reason: reason }));

  return {
    observer,
    traffic,
    asked(n, maxTokens) {
      histograms["vllm:request_params_n"].observe(n);
      if (maxTokens !== null) histograms["vllm:request_params_max_tokens"].observe(maxTokens);
    },
    injected: (part) => faults.add({ fault: part }),
    text(scrape) {
      const { running, waiting, blocksUsed, blocksTotal } = scrape.load;
      const now: EngineCounts = { ...counts, running, waiting, kvUsage: blocksUsed / blocksTotal };
      const read = Object.entries(readFamilies).map(
        ([name, { help, type, read }]): Family => ({
          name,
          help,
          type,
          samples: () => [{ labels, value: read(now) }],
        }),
      );
      const states = stateFamilies(labels, now, scrape);
      const requests = [...observed.map(({ family }) => family), ended];
      return expositionOf([...states, ...read, ...requests, ...traffic.families(), faults]);
    },
  };
}

/** Puts what the engine tells into numbers; its times are microseconds, vLLM's are seconds. */
function observe(histograms: Readonly<Record<ObservedName, Histogram>>, endedBy: (reason: string) => void) {
  const counts = { preemptions: 0, cacheQueries: 0, cacheHits: 0, prefillTokens: 0, generationTokens: 0 };
  const ttft = histograms["vllm:time_to_first_token_seconds"];
  const itl = histograms["vllm:inter_token_latency_seconds"];
  const steps = histograms["vllm:iteration_tokens_total"];
  const observer: EngineObserver = {
    onStep({ tokens, prefillTokens }) {
      counts.prefillTokens += prefillTokens;
      steps.observe(tokens);
    },
    onPrefixCache(queriedTokens, hitTokens) {
      counts.cacheQueries += queriedTokens;
      counts.cacheHits += hitTokens;
    },
    onPreempted() {
      counts.preemptions++;
    },
    onFirstToken(sinceArrivalUs) {
      counts.generationTokens++;
      ttft.observe(sinceArrivalUs / 1e6);
    },
    onNextToken(sinceLastUs) {
      counts.generationTokens++;
      itl.observe(sinceLastUs / 1e6);
    },
    onEnded(summary) {
      endedBy(summary.reason);
      observeEnd(histograms, summary);
    },
  };
  return { observer, counts };
}

function observeEnd(histograms: Readonly<Record<ObservedName, Histogram>>, summary: GenerationSummary): void {
  const { promptTokens, generatedTokens, queueUs, prefillUs, decodeUs, endToEndUs } = summary;
  histograms["vllm:request_queue_time_seconds"].observe(queueUs / 1e6);
  histograms["vllm:request_prefill_time_seconds"].observe(prefillUs / 1e6);
  histograms["vllm:request_decode_time_seconds"].observe(decodeUs / 1e6);
  histograms["vllm:request_inference_time_seconds"].observe((prefillUs + decodeUs) / 1e6);
  histograms["vllm:e2e_request_latency_seconds"].observe(endToEndUs / 1e6);
  histograms["vllm:request_prompt_tokens"].observe(promptTokens);
  histograms["vllm:request_generation_tokens"].observe(generatedTokens);
  histograms["vllm:request_max_num_generation_tokens"].observe(generatedTokens);
  if (generatedTokens > 1) {
    histograms["vllm:request_time_per_output_token_seconds"].observe(decodeUs / 1e6 / (generatedTokens - 1));
  }
}

/** Families with a label of their own for each state. */
function stateFamilies(labels: Labels, now: EngineCounts, { load, loras, profile, sleepState }: Scrape): Family[] {
  const family = (name: string, help: string, type: Family["type"], label: string, values: [string, number][]) => ({
    name,
    help,
    type,
    samples: () => values.map(([text, value]) => ({ labels: { ...labels, [label]: text }, value })),
  });
  const states = ["awake", "weights_offloaded", "discard_all"];
  const cache = { block_size: String(profile.blockSize), num_gpu_blocks: String(profile.numBlocks) };
  return [
    family("vllm:num_requests_waiting_by_reason", "Number of waiting requests by reason.", "gauge", "reason", [
      ["capacity", load.waiting - load.deferred],
      ["deferred", load.deferred],
    ]),
    family(
      "vllm:engine_sleep_state",
      "Engine sleep state; the one it is in is 1.",
      "gauge",
      "sleep_state",
      states.map((state) => [state, state === sleepState ? 1 : 0]),
    ),
    family("vllm:prompt_tokens_by_source_total", "Number of prompt tokens by source.", "counter", "source", [
      ["local_compute", now.prefillTokens],
      ["local_cache_hit", now.cacheHits],
      ["external_kv_transfer", 0],
    ]),
    {
      name: "vllm:lora_requests_info",
      help: "Running stats on lora requests.",
      type: "gauge",
      samples: () => [
        {
          labels: {
            max_lora: String(profile.maxLoras),
            running_lora_adapters: loras.running.join(","),
            waiting_lora_adapters: loras.waiting.join(","),
          },
          value: Date.now() / 1_000,
        },
      ],
    },
    {
      name: "vllm:cache_config_info",
      help: "Information of the LLMEngine CacheConfig",
      type: "gauge",
      samples: () => [{ labels: { engine: "0", enable_prefix_caching: "True", ...cache }, value: 1 }],
    },
  ];
}
