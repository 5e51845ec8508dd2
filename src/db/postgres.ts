// PostgreSQL through Bun.SQL: a bounded pool whose connections and statements have time limits, and its errors in our
// terms. Called by db.ts and, for the meaning of an error, by whoever answers one. Never logs the URL: it holds a
// password.
import { SQL } from "bun";
import { AppError, asAppError, messageOf } from "../errors.ts";
import { Late, within } from "./deadline.ts";
import { intercepted } from "./intercept.ts";

/** Connections of one pool. A gateway has five pools: 22 at most with its two single ones; PostgreSQL allows 100 in all. */
const CONNECTIONS_MAX = 4;
const CONNECT_S_MAX = 5;
const IDLE_S_MAX = 60;
const STATEMENT_MS_MAX = 30_000;
/** Then the server is not heard at all: it would have ended the statement itself. */
const SILENCE_MS_MAX = STATEMENT_MS_MAX + 5_000;

export interface PostgresOptions {
  /** Whether a commit waits for the disk. */
  readonly durable: boolean;
  readonly connectionsMax?: number;
}

/** A pool as it is, without limits of this side on a server that falls silent. */
export const connectPostgres = (url: string, { durable, connectionsMax }: PostgresOptions): SQL =>
  new SQL(url, {
    max: connectionsMax ?? CONNECTIONS_MAX,
    connectionTimeout: CONNECT_S_MAX,
    idleTimeout: IDLE_S_MAX,
    connection: {
      application_name: "millrace",
      statement_timeout: String(STATEMENT_MS_MAX),
      idle_in_transaction_session_timeout: String(STATEMENT_MS_MAX),
      // A client whose host is gone, and that holds locks, is noticed after 11 seconds instead of two hours.
      tcp_keepalives_idle: "5",
      tcp_keepalives_interval: "2",
      tcp_keepalives_count: "3",
      ...(!durable && { synchronous_commit: "off" }),
    },
  });

/**
 * Opens a pool and has `prepare` make it ready. Throws `database_unavailable`, with what is wrong. Where the server
 * falls silent and the connections stand (a cut line), a query ends after 35 s and the pool is made anew.
 */
export async function openPostgres(
  url: string,
  options: PostgresOptions,
  prepare: (sql: SQL) => Promise<void>,
): Promise<SQL> {
  let pool = connectPostgres(url, options);
  try {
    await within(SILENCE_MS_MAX, pool`SELECT 1 AS one`);
    await prepare(pool);
  } catch (error) {
    await pool.close({ timeout: 0 });
    const why = `cannot use the database of DATABASE_URL at ${new URL(url).host}: ${messageOf(error)}`;
    throw new AppError("database_unavailable", why, { cause: error });
  }
  const limited = async <T>(run: () => PromiseLike<T>): Promise<T> => {
    const asked = pool;
    try {
      return await within(SILENCE_MS_MAX, run());
    } catch (error) {
      if (error instanceof Late && asked === pool) {
        pool = connectPostgres(url, options);
        void asked.close({ timeout: 0 }).catch(() => {});
      }
      throw error;
    }
  };
  return intercepted(() => pool, { query: limited, transaction: limited });
}

/** Classes and codes of PostgreSQL that say "not now": https://www.postgresql.org/docs/current/errcodes-appendix.html */
const NOT_NOW = /^(08|53|57P|57014|40001|40P01|25006|55P03)/;

/** The same of SQLite: its disk is full or fails, or another process holds the file for too long. */
const SQLITE_NOT_NOW = /^SQLITE_(FULL|IOERR|BUSY|CANTOPEN|READONLY)/;

/** The AppError for what a query threw, on either database: `database_unavailable` where the server cannot serve it now, else null. */
export function asDatabaseError(error: unknown): AppError | null {
  const known = asAppError(error);
  if (known?.code === "database_unavailable") return known;
  const silent = (cause: unknown): AppError =>
    new AppError("database_unavailable", "The database cannot be used now.", { cause, retryAfterS: 1 });
  if (error instanceof Late) return silent(error);
  if (error instanceof SQL.SQLiteError) return SQLITE_NOT_NOW.test(error.code) ? silent(error) : null;
  if (!(error instanceof SQL.PostgresError)) return null;
  const { code, errno } = error;
  const ofServer = code === "ERR_POSTGRES_SERVER_ERROR";
  const notNow = ofServer ? NOT_NOW.test(String(errno)) : /CONNECTION|TIMEOUT/.test(code);
  return notNow ? silent(error) : null;
}
