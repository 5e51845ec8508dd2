// Runs a suite once on SQLite and once on a real PostgreSQL. A suite asks for as many empty databases as it likes: a
// file each, or a schema each of the server that the test run shares. All of them are gone after the suite.
import { afterAll, describe } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SQL } from "bun";
import type { DatabasePlace } from "../src/db/db.ts";
import { postgresMissing, sharedPostgres } from "./postgres.ts";

export interface Databases {
  readonly name: "SQLite" | "PostgreSQL";
  /** Where there is an empty database, for `openReadModel`, `openKept`, or DATA_DIR and DATABASE_URL of a process. */
  empty(): Promise<DatabasePlace>;
}

/**
 * `describe` for each kind of database. Where there is no PostgreSQL its half is skipped, and the name says why. Call it
 * at the top of a test file, or within a `describe`.
 */
export function forEachDatabase(suite: (databases: Databases) => void): void {
  describe("on SQLite", () => suite(onSqlite()));
  const missing = postgresMissing();
  if (missing) describe.skip(`on PostgreSQL (${missing})`, () => suite({ name: "PostgreSQL", empty: notHere }));
  else describe("on PostgreSQL", () => suite(onPostgres()));
}

/** Rows as SQLite gives them: PostgreSQL's driver gives a BIGINT as text. */
export const inNumbers = (rows: readonly Record<string, unknown>[]): Record<string, unknown>[] =>
  rows.map((row) => {
    const numbers = /_ms$|(^|_)(sequence|attempt|attempts|count|trimmed|row_id)$/;
    const number = ([name, value]: [string, unknown]): [string, unknown] =>
      typeof value === "string" && numbers.test(name) ? [name, Number(value)] : [name, value];
    return Object.fromEntries(Object.entries(row).map(number));
  });

const notHere = (): Promise<never> => Promise.reject(new Error("this suite is skipped"));

function onSqlite(): Databases {
  const folders: string[] = [];
  afterAll(async () => {
    for (const folder of folders) await rm(folder, { recursive: true, force: true });
  });
  return {
    name: "SQLite",
    async empty() {
      const dataDir = await mkdtemp(join(tmpdir(), "millrace database "));
      folders.push(dataDir);
      return { dataDir, databaseUrl: null };
    },
  };
}

function onPostgres(): Databases {
  const schemas: string[] = [];
  const folders = onSqlite();
  const ask = async (statement: (schema: string) => string, names: readonly string[]): Promise<void> => {
    const sql = new SQL(await sharedPostgres(), { max: 1 });
    try {
      for (const name of names) await sql.unsafe(statement(name));
    } finally {
      await sql.close();
    }
  };
  afterAll(() => ask((name) => `DROP SCHEMA ${name} CASCADE`, schemas));
  return {
    name: "PostgreSQL",
    async empty() {
      const schema = `test_${crypto.randomUUID().replaceAll("-", "")}`;
      await ask((name) => `CREATE SCHEMA ${name}`, [schema]);
      schemas.push(schema);
      const url = new URL(await sharedPostgres());
      url.searchParams.set("search_path", schema);
      return { dataDir: (await folders.empty()).dataDir, databaseUrl: url.href };
    },
  };
}
