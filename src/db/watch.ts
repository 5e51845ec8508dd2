// Whether the database answers, asked again and again on a connection of its own. Called by gateways, for who asks for
// readiness and so that reads do not wait for a database that is away.
import { within } from "./deadline.ts";
import { connectPostgres } from "./postgres.ts";

export interface DatabaseWatch {
  isReady(): boolean;
  stop(): Promise<void>;
}

const ASK_EVERY_MS = 1_000;
const ANSWER_MS_MAX = 1_000;

/** SQLite is a part of this process, and always ready. */
export function watchDatabase(databaseUrl: string | null): DatabaseWatch {
  if (databaseUrl === null) return { isReady: () => true, stop: async () => {} };
  const connect = () => connectPostgres(databaseUrl, { durable: false, connectionsMax: 1 });
  let sql = connect();
  let ready = true; // it has just been opened
  let asking: Promise<void> | null = null;
  const ask = async (): Promise<void> => {
    try {
      await within(ANSWER_MS_MAX, sql`SELECT 1 AS one`);
      ready = true;
    } catch {
      ready = false;
      // One that has fallen silent may never speak again.
      void sql.close({ timeout: 0 }).catch(() => {});
      sql = connect();
    }
    asking = null;
  };
  const timer = setInterval(() => {
    asking ??= ask();
  }, ASK_EVERY_MS);
  return {
    isReady: () => ready,
    async stop() {
      clearInterval(timer);
      await asking;
      await sql.close({ timeout: 0 });
    },
  };
}
