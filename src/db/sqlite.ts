// SQLite through Bun.SQL, which has one connection to a file: a query that is asked while a transaction is open would
// become part of it, and be taken back with it. Here everything waits its turn instead. Called by db.ts.
import { open as openFile } from "node:fs/promises";
import { SQL } from "bun";

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
  ]) {
    await sql.unsafe(`PRAGMA ${pragma}`);
  }
  return inTurns(sql);
}

/** `sql`, whose transactions and queries follow each other. While no transaction is open a query runs at once. */
function inTurns(sql: SQL): SQL {
  let last: Promise<void> | null = null;
  const inTurn = <T>(work: () => PromiseLike<T>): Promise<T> => {
    const turn = (last ? withDeadline(last) : Promise.resolve()).then(work);
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
  /** A query of Bun's runs when it is awaited, and not at all as a part of another: only its `then` has to wait. */
  const queued = (made: unknown): unknown => {
    if (!(made instanceof Promise)) return made;
    const run = made.then.bind(made);
    const then: Promise<unknown>["then"] = (onResult, onError) =>
      last ? inTurn(() => run()).then(onResult, onError) : run(onResult, onError);
    return Object.assign(made, {
      then,
      catch: (onError: (error: unknown) => unknown) => then(undefined, onError),
      finally: (onEnd: () => void) => then().finally(onEnd),
    });
  };
  const methods: Partial<Record<string | symbol, unknown>> = {
    unsafe: (...args: Parameters<SQL["unsafe"]>) => queued(sql.unsafe(...args)),
    begin: (...args: Parameters<SQL["begin"]>) => inTurn(() => sql.begin(...args)),
    transaction: (...args: Parameters<SQL["begin"]>) => inTurn(() => sql.begin(...args)),
  };
  return new Proxy(sql, {
    apply: (target, self, args) => queued(Reflect.apply(target, self, args)),
    get: (target, name) => methods[name] ?? Reflect.get(target, name),
  });
}

function withDeadline(turn: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => late.reject(new Error(`SQLite: no turn in ${TURN_MS_MAX} ms; does a transaction wait for a query outside?`)),
    TURN_MS_MAX,
  );
  return Promise.race([turn, late.promise]).finally(() => clearTimeout(timer));
}
