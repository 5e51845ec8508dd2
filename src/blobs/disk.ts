// What the folder store and the spool need of the file system beyond node:fs: errors under our codes, reads that are
// complete. It must never turn a caller's own error into one of the store.
import type { FileHandle } from "node:fs/promises";
import { AppError, asAppError } from "../errors.ts";

/**
 * Runs a call in which every error that is not ours comes from the file system, and throws those as
 * `storage_unavailable`. What a put's source throws or its signal says stays outside: that is the caller's own.
 */
export async function onDisk<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw asAppError(cause) ?? new AppError("storage_unavailable", "The object store cannot be used", { cause });
  }
}

/** Fills `into` from `position` on; throws `blob_corrupt` when the file ends before. */
export async function readFully(handle: FileHandle, into: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await handle.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new AppError("blob_corrupt", "The object ends early");
    done += bytesRead;
  }
}

/** `ENOENT` and the like; null for an error that no system call made. */
export const errnoOf = (error: unknown): string | null =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;

/** For `catch`: what is not there was to go anyway. */
export function ignoreMissing(error: unknown): null {
  if (errnoOf(error) !== "ENOENT") throw error;
  return null;
}
