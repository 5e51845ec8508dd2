// The read model's database: Bun.SQL on SQLite, opened and migrated. Called by composition roots; queries stand beside
// the nouns that ask them. All that is kept here can be rebuilt from the logs, which is why it need not survive a power
// cut (`synchronous=OFF`: no fsync; a kill of the process loses nothing).
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { SQL } from "bun";
import { migrations } from "./migrations.ts";

export interface Db {
  readonly sql: SQL;
  close(): Promise<void>;
}

export const dbPath = (dataDir: string): string => join(dataDir, "millrace.sqlite");

/** Opens `DATA_DIR/millrace.sqlite` and brings its tables up to date. */
export async function openDb(dataDir: string): Promise<Db> {
  await mkdir(dataDir, { recursive: true });
  const sql = new SQL({ adapter: "sqlite", filename: dbPath(dataDir) });
  for (const pragma of [
    "journal_mode=WAL",
    "synchronous=OFF",
    "busy_timeout=5000",
    "foreign_keys=ON",
    "trusted_schema=OFF",
  ]) {
    await sql.unsafe(`PRAGMA ${pragma}`);
  }
  await migrate(sql);
  return { sql, close: () => sql.close() };
}

/** Forward only: each migration runs once, in order, and is never edited afterwards. */
async function migrate(sql: SQL): Promise<void> {
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
