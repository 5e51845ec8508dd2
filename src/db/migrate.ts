// Brings the tables of a database up to date, once, though several processes start at the same moment. Called by db.ts.
// Forward only: each migration runs once, in order, and is never edited afterwards.
import { SQL } from "bun";
import { definition, isPostgres, write } from "./dialect.ts";
import type { Migration } from "./migrations.ts";
import { BUSY_MS } from "./sqlite.ts";

/** How long one process waits for another that migrates. */
const WAIT_MS_MAX = 60_000;
const RETRY_MS = 25;

/** All that is missing, in one transaction: after a failure nothing of it is there. */
export async function migrate(sql: SQL, migrations: readonly Migration[]): Promise<void> {
  if (isPostgres(sql)) return run(sql, migrations);
  // SQLite waits in the caller's thread, where the other connection may be the one that is waited for.
  await sql.unsafe("PRAGMA busy_timeout=0");
  const deadline = performance.now() + WAIT_MS_MAX;
  for (;;) {
    try {
      await run(sql, migrations);
      break;
    } catch (error) {
      const busy = error instanceof SQL.SQLiteError && error.code.startsWith("SQLITE_BUSY");
      if (!busy || performance.now() > deadline) throw error;
      await Bun.sleep(RETRY_MS);
    }
  }
  await sql.unsafe(`PRAGMA busy_timeout=${BUSY_MS}`);
}

const run = (sql: SQL, migrations: readonly Migration[]): Promise<void> =>
  write(sql, async (transaction) => {
    if (isPostgres(sql)) {
      // New tables and indexes may take longer than a statement of every day. The lock goes with the transaction.
      await transaction.unsafe(`SET LOCAL statement_timeout = 0`);
      await transaction.unsafe(`SET LOCAL lock_timeout = ${WAIT_MS_MAX}`);
      await transaction`SELECT pg_advisory_xact_lock(hashtext('millrace migrations'), hashtext(current_schema()))`;
    }
    await transaction.unsafe("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)");
    const rows: { name: string }[] = await transaction`SELECT name FROM migrations`;
    const done = new Set(rows.map((row) => row.name));
    for (const { name, statements } of migrations) {
      if (done.has(name)) continue;
      for (const statement of statements) await transaction.unsafe(definition(sql, statement));
      await transaction`INSERT INTO migrations (name) VALUES (${name})`;
    }
  });
