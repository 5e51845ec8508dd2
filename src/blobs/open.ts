// Which object store this installation has: S3 where an endpoint is configured, else a folder on this machine. Called
// by composition roots only.
import { join } from "node:path";
import type { Config } from "../config.ts";
import type { Blobs } from "./blobs.ts";
import { folderBlobs } from "./folder.ts";
import { minioBlobs } from "./minio.ts";

/** Touches neither disk nor network; `ready` does. Throws `invalid_config` for a bad endpoint or bucket name. */
export function openBlobs(config: Pick<Config, "s3" | "dataDir">): Blobs {
  // DATA_DIR and not the system's temporary folder, which is often memory.
  if (config.s3) return minioBlobs(config.s3, { spoolDir: join(config.dataDir, "spool") });
  return folderBlobs(join(config.dataDir, "blobs"));
}
