// The databases, opened and migrated: Bun.SQL on SQLite, or on PostgreSQL where DATABASE_URL is set. Called by
// composition roots; queries stand beside the nouns that ask them. The read model can be rebuilt from the logs and need
// not survive a power cut; what is kept (keys, deliveries, schedules, files) exists nowhere else and must; what gateways
// count together may be lost. On SQLite each has a file of its own, so that a write of one never waits for another's and
// each has its own care for the disk; on PostgreSQL they are tables of one database.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { SQL } from "bun";
import { migrate } from "./migrate.ts";
import { keptMigrations, type Migration, readModelMigrations, usageMigrations } from "./migrations.ts";
import { openPostgres } from "./postgres.ts";
import { openSqlite } from "./sqlite.ts";

export interface Db {
  readonly sql: SQL;
  close(): Promise<void>;
}

/** Where the databases are; a part of the configuration. */
export interface DatabasePlace {
  readonly dataDir: string;
  /** `postgres://…`; null: SQLite in `dataDir`. */
  readonly databaseUrl: string | null;
}

export const readModelPath = (dataDir: string): string => join(dataDir, "millrace.sqlite");
export const keptPath = (dataDir: string): string => join(dataDir, "kept.sqlite");
export const usagePath = (dataDir: string): string => join(dataDir, "usage.sqlite");

/**
 * Opens the read model and brings its tables up to date. No fsync: a kill of the process loses nothing. Throws
 * `database_unavailable`.
 */
export const openReadModel = (place: DatabasePlace): Promise<Db> =>
  open(place, readModelPath, { durable: false, migrations: readModelMigrations });

/**
 * Opens what is kept and brings its tables up to date. What is committed survives a power cut. Throws
 * `database_unavailable`.
 */
export const openKept = (place: DatabasePlace): Promise<Db> =>
  open(place, keptPath, { durable: true, migrations: keptMigrations });

/** Opens what gateways count together and brings its tables up to date. No fsync. Throws `database_unavailable`. */
export const openUsage = (place: DatabasePlace): Promise<Db> =>
  open(place, usagePath, { durable: false, migrations: usageMigrations });

/** What is being asked of PostgreSQL has so long to finish. */
const CLOSE_S_MAX = 5;

interface Kind {
  readonly durable: boolean;
  readonly migrations: readonly Migration[];
}

async function open(
  { dataDir, databaseUrl }: DatabasePlace,
  pathOf: (dataDir: string) => string,
  { durable, migrations }: Kind,
): Promise<Db> {
  await mkdir(dataDir, { recursive: true });
  if (databaseUrl) {
    const sql = await openPostgres(databaseUrl, { durable }, (pool) => migrate(pool, migrations));
    return { sql, close: () => sql.close({ timeout: CLOSE_S_MAX }) };
  }
  const sql = await openSqlite(pathOf(dataDir), durable ? "FULL" : "OFF");
  await migrate(sql, migrations);
  return { sql, close: () => sql.close() };
}
