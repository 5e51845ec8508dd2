// What differs between SQLite and PostgreSQL, in one place: queries beside the nouns are written once, in the form that
// both take. Called by queries and by the two files that open a database. What it must never become is a query builder.
//
// Both speak `sql(rows)`, `IN ${sql(values)}`, `INSERT … ON CONFLICT (…) DO UPDATE`, `RETURNING`, row values, `coalesce`
// and `CASE`. Traps that stay with the query: a BIGINT and every count() come back from PostgreSQL as text
// (`Number(row.x)`), an untyped `${null}` has no type there, text cannot hold U+0000 (JSON text is safe, it escapes it),
// an INTEGER has 32 bits, no row may stand twice in one upsert, and a statement takes 65,535 parameters (SQLite 32,766).
// PostgreSQL keeps each text of a statement prepared for the life of a connection, 0.4 MB for one of 150 rows: lists of
// many lengths go through `inserted` and `among`, which are one text whatever their length.
import type { SQL, TransactionSQL } from "bun";

export const isPostgres = (sql: SQL): boolean => sql.options.adapter === "postgres";

/** A table's definition, written for SQLite where INTEGER has 64 bits, for this database. */
export const definition = (sql: SQL, statement: string): string =>
  isPostgres(sql)
    ? statement
        .replace(/\bINTEGER PRIMARY KEY\b/g, "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
        .replace(/\bINTEGER\b/g, "BIGINT")
    : statement;

/**
 * Whether `column` holds `text`, letter by letter. Not by LIKE, which SQLite matches by backtracking: a word that nearly
 * occurs, over and over, took 4 ms in a text of 4,000 characters.
 */
export const contains = (sql: SQL, column: string, text: string): SQL.Query<unknown> =>
  isPostgres(sql) ? sql`strpos(${sql(column)}, ${text}) > 0` : sql`instr(${sql(column)}, ${text}) > 0`;

/**
 * A transaction that writes. On SQLite it takes the lock at its beginning: one that reads first and writes later is
 * refused when another process has written in between, and no waiting helps it. On PostgreSQL it is READ COMMITTED:
 * what two of them must not do at once is decided by a constraint, `ON CONFLICT` or `SELECT … FOR UPDATE`'s kin.
 */
export const write = <T>(sql: SQL, work: (transaction: TransactionSQL) => Promise<T>): Promise<T> =>
  (isPostgres(sql) ? sql.begin(work) : sql.begin("IMMEDIATE", work)) as Promise<T>;

/**
 * A write to the read model that the logs could not repeat: on PostgreSQL its commit waits for the disk. On SQLite the
 * read model is as lasting as this machine's memory, and a power cut asks for a rebuild anyway.
 */
export const writeForGood = <T>(sql: SQL, work: (transaction: TransactionSQL) => Promise<T>): Promise<T> =>
  write(sql, async (transaction) => {
    if (isPostgres(sql)) await transaction.unsafe("SET LOCAL synchronous_commit = on");
    return work(transaction);
  });

/** What follows `INSERT INTO <table>` for rows with the same columns, of which there is at least one. */
export function inserted(
  sql: SQL,
  table: string,
  rows: readonly Readonly<Record<string, string | number | null>>[],
): SQL.Query<unknown> {
  if (!isPostgres(sql)) return sql`${sql(rows)}`;
  const columns = sql.unsafe(Object.keys(rows[0] ?? {}).join(", "));
  return sql`(${columns}) SELECT ${columns}
    FROM json_populate_recordset(NULL::${sql(table)}, ${JSON.stringify(rows)}::text::json)`;
}

/** `IN (…)` for texts, of which there may be none. */
export const among = (sql: SQL, values: readonly string[]): SQL.Query<unknown> =>
  isPostgres(sql) ? sql`= ANY(${sql.array([...values], "TEXT")})` : sql`IN ${sql(values)}`;
