// What `up` prints for the person who started it: where things are and how to stop. Never a secret but the development
// key, which is none.
import type { Config } from "../config.ts";
import { DEVELOPMENT_KEY } from "../config.ts";

export interface BannerFacts {
  readonly config: Config;
  readonly natsUrl: string;
  readonly gatewayUrl: string;
  /** Null: there is none. */
  readonly simulatorUrl: string | null;
  /** GPUs whose actor does not start. */
  readonly idleGpus: readonly string[];
  readonly readyMs: number;
}

export function banner({ config, natsUrl, gatewayUrl, simulatorUrl, idleGpus, readyMs }: BannerFacts): string {
  const embedded = config.natsUrl === null;
  const rows: [string, string][] = [
    ["API", gatewayUrl],
    ["OpenAI", `${gatewayUrl}/v1  (the base URL for its SDKs)`],
    ["docs", `${gatewayUrl}/docs`],
  ];
  if (config.apiKeys.some((key) => key.secret === DEVELOPMENT_KEY)) {
    rows.push(["key", `${DEVELOPMENT_KEY}  (development only: bun millrace keys create makes your own)`]);
  }
  const server = modelServer(config, simulatorUrl);
  if (server !== null) rows.push(["LLM", server]);
  rows.push(
    ["NATS", withoutCredentials(natsUrl) + (embedded ? `  (with its token: ${config.dataDir}/nats/url)` : "")],
    ["data", config.dataDir],
    ["GPUs", config.gpuIds.map((gpu) => (idleGpus.includes(gpu) ? `${gpu} (does not start)` : gpu)).join(", ")],
  );
  const lines = rows.map(([name, value]) => `  ${name.padEnd(8)}${value}`);
  const head = `millrace is ready (${(readyMs / 1_000).toFixed(2)} s)`;
  return `${[head, "", ...lines, "", "  Ctrl-C stops it", ""].join("\n")}\n`;
}

/** What answers for language models, as far as settings say it: models.yaml may name more. */
function modelServer({ llm }: Config, simulatorUrl: string | null): string | null {
  if (simulatorUrl !== null)
    return `${simulatorUrl}  (a simulator, its answers are made up: LLM_BASE_URL names a real server)`;
  if (llm.command !== null)
    return "started by each actor with VLLM_COMMAND  (weights take their time: the log says when)";
  return llm.baseUrl === null ? null : llm.baseUrl;
}

/** Each URL of a list without `user:password@` or `token@`. */
const withoutCredentials = (urls: string): string => urls.replaceAll(/(^|,|\/\/)[^/@,]*@/g, "$1");
