// The whole service with a simulated model server behind it, for tests of language models: the official SDK as its
// client, the simulator in this process, so that a test sees what reached it.
import OpenAI from "openai";
import { type Simulator, type SimulatorOptions, startSimulator } from "../src/sim/simulator.ts";
import { type Stack, startStack } from "./stack.ts";

/** With a slash and a colon, as many names have. */
export const model = "org/chat-7b:v1.2";
/** Others of the same server: each has a breaker of its own. */
export const otherModels = ["other/a", "other/b", "other/c"] as const;

export interface LlmStack {
  readonly stack: Stack;
  readonly sim: Simulator;
  /** The official SDK as it comes, but for the address and the key. */
  readonly client: OpenAI;
  /** Requests that `client` has sent so far. */
  readonly sent: () => number;
  /** A series of the simulator's metrics; 0 while there is none. */
  counted(series: string): Promise<number>;
  stop(): Promise<void>;
}

export async function startLlmStack(
  settings: Readonly<Record<string, string>> = {},
  simulator: SimulatorOptions = {},
): Promise<LlmStack> {
  const sim = await startSimulator({ models: [model, ...otherModels], ...simulator });
  const stack = await startStack({ settings: { MODELS: "echo", LLM_BASE_URL: `${sim.url}/v1`, ...settings } }).catch(
    async (error: unknown) => {
      await sim.stop();
      throw error;
    },
  );
  let sent = 0;
  const client = new OpenAI({
    baseURL: `${stack.url}/v1`,
    apiKey: stack.key,
    fetch: (url, init) => {
      sent++;
      return fetch(url, init);
    },
  });
  await stack.until("the models are known", 10_000, async () => ((await names(client)).includes(model) ? true : null));
  return {
    stack,
    sim,
    client,
    sent: () => sent,
    async counted(series) {
      const text = await (await fetch(`${sim.url}/metrics`)).text();
      const line = text.split("\n").find((one) => one.startsWith(`${series} `));
      return Number(line?.slice(series.length) ?? 0);
    },
    async stop() {
      await stack.stop();
      await sim.stop();
    },
  };
}

const names = async (client: OpenAI): Promise<string[]> => (await client.models.list()).data.map(({ id }) => id);
