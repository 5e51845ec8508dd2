// PostgreSQL through Bun.SQL: a bounded pool whose connections and statements have time limits, and its errors in our
// terms. Called by db.ts and, for the text of an error, by whoever answers one. Never logs the URL: it holds a password.
import { SQL } from "bun";
import { AppError, asAppError } from "../errors.ts";

/** Connections of one pool; a gateway has three pools, so 20 at most: PostgreSQL allows 100 in all by default. */
const CONNECTIONS_MAX = 8;
const CONNECT_S_MAX = 5;
const IDLE_S_MAX = 60;
const STATEMENT_MS_MAX = 30_000;

export interface PostgresOptions {
  /** Whether a commit waits for the disk. */
  readonly durable: boolean;
  /** The schema of the tables; default: what the server says for this user. */
  readonly schema?: string;
}

/** Opens a pool and sees that the server answers. Throws `database_unavailable`, with what is wrong. */
export async function openPostgres(url: string, options: PostgresOptions): Promise<SQL> {
  const sql = new SQL(url, {
    max: CONNECTIONS_MAX,
    connectionTimeout: CONNECT_S_MAX,
    idleTimeout: IDLE_S_MAX,
    connection: {
      application_name: "millrace",
      statement_timeout: String(STATEMENT_MS_MAX),
      idle_in_transaction_session_timeout: String(STATEMENT_MS_MAX),
      // A host that is gone, and holds locks, is noticed after 11 seconds instead of two hours.
      tcp_keepalives_idle: "5",
      tcp_keepalives_interval: "2",
      tcp_keepalives_count: "3",
      ...(!options.durable && { synchronous_commit: "off" }),
      ...(options.schema !== undefined && { search_path: options.schema }),
    },
  });
  try {
    await sql`SELECT 1 AS one`;
    return sql;
  } catch (error) {
    await sql.close();
    const { host } = new URL(url);
    const why = error instanceof Error ? error.message : String(error);
    throw new AppError("database_unavailable", `cannot use the database of DATABASE_URL at ${host}: ${why}`, {
      cause: error,
    });
  }
}

/** Classes and codes of PostgreSQL that say "not now": https://www.postgresql.org/docs/current/errcodes-appendix.html */
const NOT_NOW = /^(08|53|57P|57014|40001|40P01|25006|55P03)/;

/** The AppError for what a query threw: `database_unavailable` where the server cannot serve it now, else null. */
export function asDatabaseError(error: unknown): AppError | null {
  const known = asAppError(error);
  if (known?.code === "database_unavailable") return known;
  if (!(error instanceof SQL.PostgresError)) return null;
  const { code, errno } = error;
  const ofServer = code === "ERR_POSTGRES_SERVER_ERROR";
  const notNow = ofServer ? NOT_NOW.test(String(errno)) : /CONNECTION|TIMEOUT/.test(code);
  return notNow ? new AppError("database_unavailable", "The database does not answer.", { cause: error }) : null;
}
