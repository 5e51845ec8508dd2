// What a process sees of the health of language models, asked when somebody scrapes. The composition roots of gateways
// and actors call it once; a gateway knows it from live calls, an actor from those of its runners.
import type { Sample } from "../metrics/exposition.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { Routing } from "./routing.ts";

const stateValues = { closed: 0, "half-open": 1, open: 2 } as const;

export function exposeModelHealth(metrics: Metrics, targets: Routing["targets"]): void {
  metrics.sampled({
    name: "ai_model_health",
    help: "1 while the model can be called at the provider, 0 while its server is down or its breakers are open.",
    type: "gauge",
    read() {
      const health = new Map<string, Sample>();
      for (const { target, callable } of targets()) {
        const key = `${target.model}\n${target.provider}`;
        const labels = [["model", target.model] as const, ["provider", target.provider] as const];
        health.set(key, { labels, value: callable || health.get(key)?.value === 1 ? 1 : 0 });
      }
      return [...health.values()];
    },
  });
  metrics.sampled({
    name: "millrace_llm_breaker_state",
    help: "0 closed, 1 half-open, 2 open; of a variant with a server for each GPU the worst of them.",
    type: "gauge",
    read: () =>
      targets().map(({ target: { model, variant, provider }, breaker }) => ({
        labels: [["model", model] as const, ["variant", variant] as const, ["provider", provider] as const],
        value: stateValues[breaker],
      })),
  });
}
