// The databases, opened and migrated: Bun.SQL on SQLite. Called by composition roots; queries stand beside the nouns
// that ask them. The read model can be rebuilt from the logs and need not survive a power cut; what is kept (keys,
// deliveries, schedules, files) exists nowhere else and must, which is why it is a file of its own; what gateways count
// together may be lost, and is a third one so that a write of it never waits for the read model's.
import { mkdir, open as openFile } from "node:fs/promises";
import { join } from "node:path";
import { SQL } from "bun";
import { keptMigrations, type Migration, readModelMigrations, usageMigrations } from "./migrations.ts";

export interface Db {
  readonly sql: SQL;
  close(): Promise<void>;
}

export const readModelPath = (dataDir: string): string => join(dataDir, "millrace.sqlite");
export const keptPath = (dataDir: string): string => join(dataDir, "kept.sqlite");
export const usagePath = (dataDir: string): string => join(dataDir, "usage.sqlite");

/** Opens `DATA_DIR/millrace.sqlite` and brings its tables up to date. No fsync: a kill of the process loses nothing. */
export const openReadModel = (dataDir: string): Promise<Db> =>
  open(dataDir, readModelPath(dataDir), "OFF", readModelMigrations);

/** Opens `DATA_DIR/kept.sqlite` and brings its tables up to date. What is committed survives a power cut. */
export const openKept = (dataDir: string): Promise<Db> => open(dataDir, keptPath(dataDir), "FULL", keptMigrations);

/** Opens `DATA_DIR/usage.sqlite` and brings its tables up to date. No fsync. */
export const openUsage = (dataDir: string): Promise<Db> => open(dataDir, usagePath(dataDir), "OFF", usageMigrations);

async function open(
  dataDir: string,
  filename: string,
  synchronous: "OFF" | "FULL",
  migrations: readonly Migration[],
): Promise<Db> {
  await mkdir(dataDir, { recursive: true });
  await (await openFile(filename, "a", 0o600)).close(); // SQLite gives its other files the mode of this one
  const sql = new SQL({ adapter: "sqlite", filename });
  for (const pragma of [
    "busy_timeout=5000",
    "journal_mode=WAL",
    `synchronous=${synchronous}`,
    "foreign_keys=ON",
    "trusted_schema=OFF",
  ]) {
    await sql.unsafe(`PRAGMA ${pragma}`);
  }
  await migrate(sql, migrations);
  return { sql, close: () => sql.close() };
}

/** Forward only: each migration runs once, in order, and is never edited afterwards. */
async function migrate(sql: SQL, migrations: readonly Migration[]): Promise<void> {
  await sql.unsafe("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)");
  for (const { name, statements } of migrations) {
    await sql.begin(async (transaction) => {
      const [done] = await transaction`SELECT name FROM migrations WHERE name = ${name}`;
      if (done) return;
      for (const statement of statements) await transaction.unsafe(statement);
      await transaction`INSERT INTO migrations (name) VALUES (${name})`;
    });
  }
}
