// Something that one process at a time does for all that share a PostgreSQL. The right to it is an advisory lock of a
// session: PostgreSQL gives it to another at once when its holder's connection breaks, and ends the session of one that
// has not been heard for five seconds (stopped, or behind a cut line). Called by who does such a thing. It saves work and
// is no fence: a holder that was stopped may go on for a moment after it has lost the right.
import type { SQL } from "bun";
import { within } from "./deadline.ts";
import { asDatabaseError, connectPostgres } from "./postgres.ts";

export interface Hold {
  /** Resolves when the right is lost, or may be. */
  readonly lost: Promise<void>;
  release(): Promise<void>;
}

const ASK_MS_MAX = 2_000;
const BEAT_MS = 1_000;
/** In time for several beats, and short enough for readers of what the holder keeps up to date. */
const HEARD_MS_MAX = 5_000;

/**
 * The right to `name`, or null where another process has it. On SQLite there is nothing to share: always granted. Throws
 * `database_unavailable`.
 */
export async function tryHold(databaseUrl: string | null, name: string): Promise<Hold | null> {
  if (databaseUrl === null) return { lost: new Promise(() => {}), release: async () => {} };
  const sql = connectPostgres(databaseUrl, { durable: false, connectionsMax: 1 });
  try {
    const session = await within(ASK_MS_MAX, acquire(sql, name));
    if (session !== null) return hold(sql, session);
  } catch (error) {
    await sql.close({ timeout: 0 });
    throw asDatabaseError(error) ?? error;
  }
  await sql.close({ timeout: 0 });
  return null;
}

/** The session that has the lock, or null. */
async function acquire(sql: SQL, name: string): Promise<number | null> {
  await sql.unsafe(`SET idle_session_timeout = ${HEARD_MS_MAX}`);
  const [row] = await sql`
    SELECT pg_try_advisory_lock(hashtext(${`millrace ${name}`}), hashtext(current_schema())) AS granted,
      pg_backend_pid() AS session`;
  return row.granted === true ? Number(row.session) : null;
}

function hold(sql: SQL, session: number): Hold {
  const lost = Promise.withResolvers<void>();
  let beating = false;
  // The pool would connect anew where the session has ended, and the new one does not have the lock.
  const beat = async (): Promise<void> => {
    if (beating) return;
    beating = true;
    try {
      const [row] = await within(ASK_MS_MAX, sql`SELECT pg_backend_pid() AS session`);
      if (Number(row.session) !== session) lost.resolve();
    } catch {
      lost.resolve(); // who holds it cannot be known: asked for again, it is granted or refused
    }
    beating = false;
  };
  const timer = setInterval(() => void beat(), BEAT_MS);
  return {
    lost: lost.promise,
    async release() {
      clearInterval(timer);
      lost.resolve();
      await sql.close({ timeout: 0 });
    },
  };
}
