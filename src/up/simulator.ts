// The simulated model server under supervision, where no LLM_BASE_URL names a real one: started by `up` before the
// broker, and again on its port when it dies, so that gateways and actors find it where it was. A child like the others;
// it must never run where ENV=prod, as its answers are made up.
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Config } from "../config.ts";
import { type ChildParts, keepAlive } from "./child.ts";

export interface KeptSimulator {
  /** For LLM_BASE_URL, once it serves. Rejects where it cannot start. */
  readonly url: Promise<string>;
  stop(force: AbortSignal): Promise<void>;
}

/** Where gateways and actors that are started beside `up` find the simulator: a file with its URL, while it runs. */
export const simulatorUrlFile = (dataDir: string): string => join(dataDir, "run", "simulator.url");

/** Its answers are not worth waiting for. */
const GRACE_MS = 2_000;
/** Its caches and open answers are small. */
const HEAP_HINT_BYTES = String(128 * 1024 * 1024);

/** Null where another server is configured, or made-up answers could be taken for real ones. */
export async function keepSimulator(
  config: Config,
  command: readonly string[],
  parts: ChildParts,
): Promise<KeptSimulator | null> {
  const urlFile = simulatorUrlFile(config.dataDir);
  await rm(urlFile, { force: true }); // of one that was killed
  if (config.llm.baseUrl !== null || config.env === "prod") return null;
  const { host, port } = config.sim;
  let heldPort = isFree(host, port) ? port : 0;
  if (heldPort !== port) parts.log.warn({ port }, "the simulator's port is taken: it takes another one");
  const child = keepAlive(
    {
      name: "simulator",
      command,
      env: () => ({ ...process.env, SIM_PORT: String(heldPort), BUN_JSC_forceRAMSize: HEAP_HINT_BYTES }),
    },
    parts,
  );
  const url = child.ready.then(async ({ url: served = "" }) => {
    heldPort = Number(new URL(served).port);
    const reachable = `${served.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")}/v1`;
    await mkdir(dirname(urlFile), { recursive: true, mode: 0o700 });
    await writeFile(urlFile, reachable);
    return reachable;
  });
  url.catch(() => {}); // whoever waits for it hears of it; a stop before that is no crash
  return {
    url,
    async stop(force) {
      await child.stop(GRACE_MS, force);
      await rm(urlFile, { force: true });
    },
  };
}

/** Whether a server may listen there now. Port 0 always may. */
function isFree(hostname: string, port: number): boolean {
  try {
    Bun.listen({ hostname, port, socket: { data() {} } }).stop(true);
    return true;
  } catch {
    return false;
  }
}
