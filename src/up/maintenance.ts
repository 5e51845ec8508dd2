// Work on the data of a machine that is at rest: holds DATA_DIR as `up` would, lends a broker for the time of the work,
// and puts everything back. Called by main.ts for commands such as `rebuild`.
import { resolveServerBinary, startServer } from "../bus/server.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import { endLeftovers, processRecords } from "./leftovers.ts";
import { lockDataDir } from "./lock.ts";

/**
 * Runs `work` with a configuration that names a broker: NATS_URL, or the embedded one on its store. Throws
 * `data_dir_in_use` while `up` runs on DATA_DIR, what the start of the broker throws, and what `work` throws.
 */
export async function atRest(config: Config, log: Log, work: (config: Config) => Promise<void>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const lock = lockDataDir(config.dataDir);
  stack.defer(() => lock.release());
  await endLeftovers(processRecords(config.dataDir), log);
  if (config.natsUrl !== null) return await work(config);
  const { dataDir, natsPort: port, durability } = config;
  const server = await startServer({ binary: resolveServerBinary(config.natsServerBin), dataDir, port, durability });
  stack.defer(() => server.stop());
  await work({ ...config, natsUrl: server.url });
}
