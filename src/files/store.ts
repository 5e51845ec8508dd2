// The queries on uploaded files. The rows stand nowhere else: the bytes in the object store have no name and no purpose
// without them.
import type { SQL } from "bun";
import { among } from "../db/dialect.ts";

export interface FileRow {
  readonly id: string;
  /** The API key that uploaded it. */
  readonly keyId: string;
  readonly filename: string;
  readonly purpose: string;
  readonly contentType: string;
  readonly sizeBytes: number;
  /** Lower-case hexadecimal. */
  readonly sha256: string;
  /** Milliseconds since the epoch, like `expiresMs`. */
  readonly createdMs: number;
  readonly expiresMs: number;
}

export async function insertFile(sql: SQL, row: FileRow): Promise<void> {
  await sql`
    INSERT INTO files (file_id, key_id, filename, purpose, content_type, size_bytes, sha256, created_ms, expires_ms)
    VALUES (${row.id}, ${row.keyId}, ${row.filename}, ${row.purpose}, ${row.contentType}, ${row.sizeBytes},
      ${row.sha256}, ${row.createdMs}, ${row.expiresMs})`;
}

export async function countFiles(sql: SQL, keyId: string): Promise<number> {
  const [row] = await sql`SELECT count(*) AS files FROM files WHERE key_id = ${keyId}`;
  return Number(row.files);
}

/** The file, unless it has expired or is another key's. */
export async function findFile(sql: SQL, keyId: string, id: string, nowMs: number): Promise<FileRow | null> {
  const [row] = await sql`
    SELECT * FROM files WHERE file_id = ${id} AND key_id = ${keyId} AND expires_ms > ${nowMs}`;
  return row ? fromColumns(row) : null;
}

export interface FilePage {
  /** Id of the last file of the page before. */
  readonly after: string | null;
  readonly purpose: string | null;
  readonly order: "asc" | "desc";
  readonly limit: number;
}

/** In the order of their ids, which is that of their upload. */
export async function listFiles(sql: SQL, keyId: string, page: FilePage, nowMs: number): Promise<FileRow[]> {
  const { after, purpose, order, limit } = page;
  const beyond = order === "asc" ? sql`AND file_id > ${after}` : sql`AND file_id < ${after}`;
  const rows: Columns[] = await sql`
    SELECT * FROM files
    WHERE key_id = ${keyId} AND expires_ms > ${nowMs} ${after === null ? sql`` : beyond}
      ${purpose === null ? sql`` : sql`AND purpose = ${purpose}`}
    ORDER BY file_id ${order === "asc" ? sql`ASC` : sql`DESC`} LIMIT ${limit}`;
  return rows.map(fromColumns);
}

/** Whether there was one. */
export async function deleteFile(sql: SQL, keyId: string, id: string): Promise<boolean> {
  const rows: unknown[] = await sql`
    DELETE FROM files WHERE file_id = ${id} AND key_id = ${keyId} RETURNING file_id`;
  return rows.length > 0;
}

/** Those that have expired, the oldest first. */
export async function expiredFiles(sql: SQL, nowMs: number, limit: number): Promise<{ id: string; keyId: string }[]> {
  const rows: Columns[] = await sql`
    SELECT * FROM files WHERE expires_ms <= ${nowMs} ORDER BY expires_ms LIMIT ${limit}`;
  return rows.map(fromColumns);
}

/** Of these ids those that have a row. */
export async function knownFiles(sql: SQL, ids: readonly string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set();
  const rows: { file_id: string }[] = await sql`SELECT file_id FROM files WHERE file_id ${among(sql, ids)}`;
  return new Set(rows.map((row) => row.file_id));
}

type Columns = Readonly<Record<string, string | number>>;

const fromColumns = (row: Columns): FileRow => ({
  id: String(row.file_id),
  keyId: String(row.key_id),
  filename: String(row.filename),
  purpose: String(row.purpose),
  contentType: String(row.content_type),
  sizeBytes: Number(row.size_bytes),
  sha256: String(row.sha256),
  createdMs: Number(row.created_ms),
  expiresMs: Number(row.expires_ms),
});
