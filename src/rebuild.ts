// The `rebuild` command: makes the read model anew from the logs, beside the old one, and puts it in its place. Not to
// be run while a gateway of this DATA_DIR or DATABASE_URL runs; history older than the logs is not in them and is lost.
import { openBus } from "./bus/connection.ts";
import { ensureTopology } from "./bus/topology.ts";
import type { Config } from "./config.ts";
import { tryHold } from "./db/exclusive.ts";
import { openRebuilt } from "./db/rebuilt.ts";
import { AppError } from "./errors.ts";
import { createLog } from "./log.ts";
import { projectHere } from "./tasks/projector.ts";
import { PROJECTOR } from "./tasks/projector-turns.ts";

/** Throws `data_dir_in_use` while a gateway writes the read model of DATABASE_URL, `database_unavailable`. */
export async function runRebuild(config: Config): Promise<void> {
  const log = createLog("rebuild", config.logLevel);
  const hold = await tryHold(config.databaseUrl, PROJECTOR);
  if (!hold) throw new AppError("data_dir_in_use", "a gateway uses this DATABASE_URL: stop all of them first");
  const bus = await openBus(config.natsUrl ?? "", "millrace rebuild", log);
  const { partitions } = await ensureTopology(bus, config, log);
  const rebuilt = await openRebuilt(config);
  const projector = await projectHere({ bus, sql: rebuilt.sql, partitions, log });
  await projector.caughtUp;
  await projector.stop();
  await bus.close();
  await rebuilt.putInPlace();
  await hold.release();
  process.stdout.write(`read model rebuilt from ${projector.records()} records\n`);
}
