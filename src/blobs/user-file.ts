// Uploaded files: their ids, and where the bytes of one stand in the store. The key names the owner, so that whoever
// reads by the owner of a task can never reach a file of another; gateways write them and actors read them.
import { AppError, asAppError } from "../errors.ts";
import { isTaskId, randomTaskId } from "../ids.ts";
import type { Blobs } from "./blobs.ts";

const PREFIX = "file-";

/** The folder of all uploads in the store. */
export const USER_FILES = "files/";

/** A fresh id; later ones sort after earlier ones, to the millisecond. */
export const newFileId = (nowMs: number): string => PREFIX + randomTaskId(nowMs);

export const isFileId = (text: string): boolean => text.startsWith(PREFIX) && isTaskId(text.slice(PREFIX.length));

/** Key of the object with the bytes of `fileId`, which `keyId` uploaded. The id has passed `isFileId`. */
export function userFileKey(keyId: string, fileId: string): string {
  const owner = new Bun.CryptoHasher("sha256").update(keyId).digest("hex").slice(0, 16);
  return `${USER_FILES}${fileId}-${owner}`;
}

/**
 * The bytes of a file that `keyId` uploaded. Throws `file_not_found` (also for another key's), `payload_too_large`,
 * `storage_unavailable`.
 */
export async function readUserFile(
  blobs: Blobs,
  keyId: string,
  fileId: string,
  sizeBytesMax: number,
): Promise<Uint8Array> {
  try {
    if (isFileId(fileId)) return await blobs.read(userFileKey(keyId, fileId), sizeBytesMax);
  } catch (error) {
    if (asAppError(error)?.code !== "blob_not_found") throw error;
  }
  throw new AppError("file_not_found", "There is no file with this id");
}

/** The id of the file whose bytes stand under `key`; null for another object. */
export function fileIdOfKey(key: string): string | null {
  const id = key.startsWith(USER_FILES) ? key.slice(USER_FILES.length, key.lastIndexOf("-")) : "";
  return isFileId(id) ? id : null;
}
