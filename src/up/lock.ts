// One `up` for one DATA_DIR. The lock is the kernel's, taken through SQLite's portable file locking: it goes with the
// process that holds it, however that dies, so there is no stale lock to judge or to steal.
import { Database } from "bun:sqlite";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../errors.ts";

export interface Lock {
  /** Idempotent. */
  release(): void;
}

/** Creates DATA_DIR where it is missing. Throws `data_dir_in_use` with the holder's pid, `storage_unavailable`. */
export function lockDataDir(dataDir: string): Lock {
  const pidFile = join(dataDir, "up.pid");
  let database: Database | undefined;
  try {
    mkdirSync(dataDir, { recursive: true });
    database = new Database(join(dataDir, "up.lock"), { create: true });
    database.run("PRAGMA busy_timeout = 0");
    database.run("BEGIN EXCLUSIVE");
    writeFileSync(pidFile, `${process.pid}\n`);
  } catch (error) {
    database?.close();
    if ((error as { code?: string }).code !== "SQLITE_BUSY") {
      throw new AppError("storage_unavailable", `DATA_DIR ${dataDir} cannot be written`, { cause: error });
    }
    throw new AppError(
      "data_dir_in_use",
      `another \`up\` (pid ${pidIn(pidFile)}) uses DATA_DIR ${dataDir}; stop it, or set DATA_DIR and PORT to others`,
    );
  }
  const held = database;
  return { release: () => held.close() };
}

function pidIn(path: string): string {
  try {
    return readFileSync(path, "utf8").trim() || "unknown";
  } catch {
    return "unknown"; // it has the lock and has not written its pid yet
  }
}
