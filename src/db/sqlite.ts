// SQLite through Bun.SQL, which has one connection to a file: a query that is asked while a transaction is open would
// become part of it, and be taken back with it. Here everything waits its turn instead. Called by db.ts.
import { open as openFile } from "node:fs/promises";
import { SQL } from "bun";
import { within } from "./deadline.ts";
import { intercepted } from "./intercept.ts";

/** A turn that does not come in this time never will: a transaction waits for a query outside of itself. */
const TURN_MS_MAX = 30_000;
/** How long a statement waits for another process that writes. */
export const BUSY_MS = 5_000;

/** Opens the file, which is made where it is missing, readable by its owner alone. `synchronous`: fsync or not. */
export async function openSqlite(filename: string, synchronous: "OFF" | "FULL"): Promise<SQL> {
  await (await openFile(filename, "a", 0o600)).close(); // SQLite gives its other files the mode of this one
  const sql = new SQL({ adapter: "sqlite", filename });
  for (const pragma of [
    `busy_timeout=${BUSY_MS}`,
    "journal_mode=WAL",
    `synchronous=${synchronous}`,
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "secure_delete=ON", // what is erased must not lie in the file until its page is used again
  ]) {
    await sql.unsafe(`PRAGMA ${pragma}`);
  }
  return inTurns(sql);
}

/** `sql`, whose transactions and queries follow each other. While no transaction is open a query runs at once. */
function inTurns(sql: SQL): SQL {
  let last: Promise<void> | null = null;
  const inTurn = <T>(work: () => PromiseLike<T>): Promise<T> => {
    const turn = (last ? within(TURN_MS_MAX, last) : Promise.resolve()).then(work);
    const over = turn.then(
      () => {},
      () => {},
    );
    last = over;
    void over.then(() => {
      if (last === over) last = null;
    });
    return turn;
  };
  return intercepted(() => sql, { query: (run) => (last ? inTurn(run) : run()), transaction: inTurn });
}
