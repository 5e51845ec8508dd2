// The files that clients upload: bytes in the object store, everything else in SQL. The routes of /v1/files call it. The
// object is written before its row and deleted after it, so a row always has its bytes; an object without a row, left
// by a crash, belongs to the sweep of the store.
import type { SQL } from "bun";
import type { Blobs } from "../blobs/blobs.ts";
import { fileIdOfKey, isFileId, newFileId, USER_FILES, userFileKey } from "../blobs/user-file.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Owner } from "../tasks/tasks.ts";
import {
  countFiles,
  deleteFile,
  expiredFiles,
  type FilePage,
  type FileRow,
  findFile,
  insertFile,
  knownFiles,
  listFiles,
} from "./store.ts";

/** Like the OpenAI API. */
export const FILE_BYTES_MAX = 512 * 1_000_000;
/** A list of more could not be looked through; a program that forgets to delete is told so. */
const FILES_PER_KEY_MAX = 10_000;
const SWEEP_BATCH = 500;
/** An upload takes an hour at most; its row follows at once. */
const YOUNG_MS = 86_400_000;

export type StoredFile = Omit<FileRow, "keyId">;

/** Bytes that have arrived, before their name is known. */
export interface ReceivedBytes {
  readonly id: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly contentType: string;
}

export interface FileDetails {
  readonly filename: string;
  readonly purpose: string;
  /** Milliseconds from now; null for HISTORY_TTL. */
  readonly expiresInMs: number | null;
}

/** Every method answers for the owner's files alone; an expired one does not exist. */
export interface Files {
  /**
   * Streams the bytes to the store; they are no file until `keep`. Throws `too_many_files`, `payload_too_large` above
   * 512 MB, `storage_unavailable`, `request_timeout` and what the stream throws.
   */
  receive(owner: Owner, content: ReadableStream<Uint8Array>, contentType: string): Promise<ReceivedBytes>;
  keep(owner: Owner, received: ReceivedBytes, details: FileDetails): Promise<StoredFile>;
  /** Drops received bytes that are not kept. */
  discard(owner: Owner, received: ReceivedBytes): Promise<void>;
  /** Throws `file_not_found`. */
  get(owner: Owner, id: string): Promise<StoredFile>;
  list(owner: Owner, page: FilePage): Promise<StoredFile[]>;
  /** Throws `file_not_found`. */
  remove(owner: Owner, id: string): Promise<void>;
  /**
   * Deletes what has expired, and objects without a row that have lain there for a day. Resolves to the number of
   * objects. Ends early when `signal` aborts.
   */
  sweep(signal: AbortSignal): Promise<number>;
}

export interface FilesOptions {
  /** The kept database. */
  readonly sql: SQL;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly historyTtlMs: number;
}

export function createFiles({ sql, blobs, clock, historyTtlMs }: FilesOptions): Files {
  return {
    async receive({ keyId }, content, contentType) {
      if ((await countFiles(sql, keyId)) >= FILES_PER_KEY_MAX) {
        throw new AppError("too_many_files", `This key has ${FILES_PER_KEY_MAX} files: delete some first.`);
      }
      const id = newFileId(clock.now());
      const { sizeBytes, sha256 } = await blobs.put(userFileKey(keyId, id), content, { contentType });
      return { id, sizeBytes, sha256, contentType };
    },
    async keep({ keyId }, received, { filename, purpose, expiresInMs }) {
      const createdMs = clock.now();
      const times = { createdMs, expiresMs: createdMs + (expiresInMs ?? historyTtlMs) };
      const file = { ...received, filename, purpose, ...times };
      await insertFile(sql, { ...file, keyId });
      return file;
    },
    discard: ({ keyId }, { id }) => blobs.delete(userFileKey(keyId, id)),
    async get({ keyId }, id) {
      const file = isFileId(id) ? await findFile(sql, keyId, id, clock.now()) : null;
      if (file === null) throw missing();
      return file;
    },
    list: ({ keyId }, page) => listFiles(sql, keyId, page, clock.now()),
    async remove({ keyId }, id) {
      if (!isFileId(id) || !(await deleteFile(sql, keyId, id))) throw missing();
      await blobs.delete(userFileKey(keyId, id));
    },
    sweep: async (signal) =>
      (await sweepExpired(sql, blobs, clock, signal)) + (await sweepOrphans(sql, blobs, clock, signal)),
  };
}

async function sweepExpired(sql: SQL, blobs: Blobs, clock: Clock, signal: AbortSignal): Promise<number> {
  for (let deleted = 0; ; ) {
    const expired = await expiredFiles(sql, clock.now(), SWEEP_BATCH);
    for (const { keyId, id } of expired) {
      if (signal.aborted) return deleted;
      await deleteFile(sql, keyId, id);
      await blobs.delete(userFileKey(keyId, id));
      deleted++;
    }
    if (expired.length < SWEEP_BATCH) return deleted;
  }
}

async function sweepOrphans(sql: SQL, blobs: Blobs, clock: Clock, signal: AbortSignal): Promise<number> {
  let deleted = 0;
  let batch = new Map<string, string>();
  const flush = async (): Promise<void> => {
    const known = await knownFiles(sql, [...batch.keys()]);
    for (const [id, key] of batch) {
      if (known.has(id)) continue;
      await blobs.delete(key);
      deleted++;
    }
    batch = new Map();
  };
  for await (const { key, storedAtMs } of blobs.list(USER_FILES)) {
    if (signal.aborted) return deleted;
    const id = fileIdOfKey(key);
    if (id === null || clock.now() - storedAtMs < YOUNG_MS) continue;
    batch.set(id, key);
    if (batch.size >= SWEEP_BATCH) await flush();
  }
  await flush();
  return deleted;
}

const missing = (): AppError => new AppError("file_not_found", "There is no file with this id.");
