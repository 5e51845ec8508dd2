// A read model made anew beside the old one, which it then replaces at once: a file beside the file, or a schema beside
// the schema. Called by the `rebuild` command. Not while anybody uses the old one.
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { SQL } from "bun";
import { type DatabasePlace, openReadModel, readModelPath } from "./db.ts";
import { migrate } from "./migrate.ts";
import { readModelMigrations } from "./migrations.ts";
import { connectPostgres, openPostgres } from "./postgres.ts";

export interface Rebuilt {
  /** Empty, with all its tables. */
  readonly sql: SQL;
  /** Closes it, and puts it where the old one was. Where it is not called the old one stays. */
  putInPlace(): Promise<void>;
}

/** Throws `database_unavailable`. What an earlier attempt has left is removed. */
export const openRebuilt = (place: DatabasePlace): Promise<Rebuilt> =>
  place.databaseUrl === null ? besideTheFile(place.dataDir) : besideTheSchema(place, place.databaseUrl);

async function besideTheFile(dataDir: string): Promise<Rebuilt> {
  const folder = join(dataDir, "rebuild");
  await rm(folder, { recursive: true, force: true });
  const db = await openReadModel({ dataDir: folder, databaseUrl: null });
  return {
    sql: db.sql,
    async putInPlace() {
      await db.close();
      for (const suffix of ["-wal", "-shm"]) await rm(`${readModelPath(dataDir)}${suffix}`, { force: true });
      await rename(readModelPath(folder), readModelPath(dataDir));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function besideTheSchema(place: DatabasePlace, url: string): Promise<Rebuilt> {
  // The old one with all its steps: they are noted as done where the new tables will be.
  await (await openReadModel(place)).close();
  const old = connectPostgres(url, { durable: true, connectionsMax: 1 });
  const [{ schema }] = await old`SELECT current_schema() AS schema`;
  const fresh = `${schema}_rebuild`;
  await old.unsafe(`DROP SCHEMA IF EXISTS ${quoted(fresh)} CASCADE`);
  await old.unsafe(`CREATE SCHEMA ${quoted(fresh)}`);
  const elsewhere = new URL(url);
  elsewhere.searchParams.set("search_path", quoted(fresh));
  const sql = await openPostgres(elsewhere.href, { durable: false }, (pool) => migrate(pool, readModelMigrations));
  return {
    sql,
    async putInPlace() {
      await sql.close();
      await old.begin(async (transaction) => {
        await transaction.unsafe("SET LOCAL statement_timeout = 0");
        const tables: { name: string }[] = await transaction`
          SELECT tablename AS name FROM pg_tables WHERE schemaname = ${fresh} AND tablename <> 'migrations'`;
        for (const { name } of tables) {
          await transaction.unsafe(`DROP TABLE IF EXISTS ${quoted(schema)}.${quoted(name)}`);
          await transaction.unsafe(`ALTER TABLE ${quoted(fresh)}.${quoted(name)} SET SCHEMA ${quoted(schema)}`);
        }
        await transaction.unsafe(`DROP SCHEMA ${quoted(fresh)} CASCADE`);
      });
      await old.close();
    },
  };
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
