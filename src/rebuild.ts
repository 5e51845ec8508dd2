// The `rebuild` command: makes the read model anew from the logs, beside the old one, and puts it in its place. Not to
// be run while a gateway of this DATA_DIR runs; history older than the logs is not in them and is lost.
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { openBus } from "./bus/connection.ts";
import { ensureTopology } from "./bus/topology.ts";
import type { Config } from "./config.ts";
import { openReadModel, readModelPath } from "./db/db.ts";
import { createLog } from "./log.ts";
import { projectHere } from "./tasks/projector.ts";

export async function runRebuild(config: Config): Promise<void> {
  const log = createLog("rebuild", config.logLevel);
  const bus = await openBus(config.natsUrl ?? "", "millrace rebuild", log);
  const { partitions } = await ensureTopology(bus, config, log);
  const folder = join(config.dataDir, "rebuild");
  await rm(folder, { recursive: true, force: true });
  const db = await openReadModel({ dataDir: folder, databaseUrl: null });
  const projector = await projectHere({ bus, sql: db.sql, partitions, log });
  await projector.caughtUp;
  await projector.stop();
  await db.close();
  await bus.close();
  for (const suffix of ["-wal", "-shm"]) await rm(`${readModelPath(config.dataDir)}${suffix}`, { force: true });
  await rename(readModelPath(folder), readModelPath(config.dataDir));
  await rm(folder, { recursive: true, force: true });
  process.stdout.write(`read model rebuilt from ${projector.records()} records\n`);
}
