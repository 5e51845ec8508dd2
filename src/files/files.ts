// The files that clients upload: bytes in the object store, everything else in SQL. The routes of /v1/files call it. The
// object is written before its row and deleted after it, so a row always has its bytes; an object without a row, left
// by a crash, belongs to the sweep of the store.
import type { SQL } from "bun";
import type { Blobs } from "../blobs/blobs.ts";
import { isFileId, newFileId, userFileKey } from "../blobs/user-file.ts";
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
  listFiles,
} from "./store.ts";

/** Like the OpenAI API. */
export const FILE_BYTES_MAX = 512 * 1_000_000;
/** A list of more could not be looked through; a program that forgets to delete is told so. */
const FILES_PER_KEY_MAX = 10_000;
const EXPIRED_BATCH = 500;

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
  /** Deletes what has expired. */
  sweep(): Promise<void>;
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
    async sweep() {
      for (;;) {
        const expired = await expiredFiles(sql, clock.now(), EXPIRED_BATCH);
        for (const { keyId, id } of expired) {
          await deleteFile(sql, keyId, id);
          await blobs.delete(userFileKey(keyId, id));
        }
        if (expired.length < EXPIRED_BATCH) return;
      }
    },
  };
}

const missing = (): AppError => new AppError("file_not_found", "There is no file with this id.");
