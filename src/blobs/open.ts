// Which object store this installation has: S3 where an endpoint is configured, else a folder on this machine. Called
// by composition roots only.
import { join } from "node:path";
import type { Config } from "../config.ts";
import type { Blobs } from "./blobs.ts";
import { folderBlobs } from "./folder.ts";

/** Touches neither disk nor network; `ready` does. Throws `invalid_config` for a bad endpoint or bucket name. */
export async function openBlobs(config: Pick<Config, "s3" | "dataDir">): Promise<Blobs> {
  if (!config.s3) return folderBlobs(join(config.dataDir, "blobs"));
  const { minioBlobs } = await import("./minio.ts"); // 12 MB that an installation without S3 need not have
  // DATA_DIR and not the system's temporary folder, which is often memory.
  return minioBlobs(config.s3, { spoolDir: join(config.dataDir, "spool") });
}
