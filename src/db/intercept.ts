// Puts something around every query and every transaction of a Bun.SQL: a turn on SQLite, a time limit on PostgreSQL.
// Called by the files that open a database. Queries within a transaction's callback pass through untouched.
import type { SQL } from "bun";

export interface Around {
  query<T>(run: () => PromiseLike<T>): PromiseLike<T>;
  transaction<T>(run: () => PromiseLike<T>): PromiseLike<T>;
}

/** A SQL that asks `current()`, which may be another each time. */
export function intercepted(current: () => SQL, around: Around): SQL {
  /** A query of Bun's runs when it is awaited, and not at all as a part of another: only its `then` has to change. */
  const query = (made: unknown): unknown => {
    if (!(made instanceof Promise)) return made;
    const run = made.then.bind(made) as () => Promise<unknown>;
    const then: Promise<unknown>["then"] = (onResult, onError) =>
      Promise.resolve(around.query(run)).then(onResult, onError);
    return Object.assign(made, {
      then,
      catch: (onError: (error: unknown) => unknown) => then(undefined, onError),
      finally: (onEnd: () => void) => then().finally(onEnd),
    });
  };
  const begin = (...args: Parameters<SQL["begin"]>): unknown => around.transaction(() => current().begin(...args));
  const methods: Partial<Record<string | symbol, unknown>> = {
    unsafe: (...args: Parameters<SQL["unsafe"]>) => query(current().unsafe(...args)),
    begin,
    transaction: begin,
  };
  return new Proxy(current(), {
    apply: (_, self, args) => query(Reflect.apply(current(), self, args)),
    get: (_, name) => methods[name] ?? Reflect.get(current(), name),
  });
}
