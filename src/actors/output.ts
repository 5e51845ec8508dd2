// What a runner returned, made into the result of a task: files go to the store under keys with the attempt's fence, a
// large JSON result becomes an object too, the rest travels in the record. Called before the result is committed; what
// it stored is deleted again by the caller when another attempt has won.
import type { Blobs } from "../blobs/blobs.ts";
import { withKeys } from "../registry/file.ts";
import type { Execution } from "../registry/stages.ts";
import { INLINE_RESULT_BYTES_MAX } from "../tasks/records.ts";

export interface StoredOutput {
  /** JSON text of the task's `result`. */
  readonly resultJson: string;
  /** Keys of this attempt only. */
  readonly keys: readonly string[];
}

interface StoredFile {
  readonly path: string;
  readonly key: string;
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly contentType: string;
}

const EXTENSIONS: Readonly<Record<string, string>> = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/webp": "webp",
  "audio/wav": "wav",
  "application/json": "json",
  "text/plain": "txt",
};

/** Throws `storage_unavailable`, `payload_too_large`; nothing of this attempt is left in the store then. */
export async function storeOutput(
  blobs: Blobs,
  taskId: string,
  fence: string,
  execution: Extract<Execution, { ok: true }>,
  signal: AbortSignal,
): Promise<StoredOutput> {
  const large = Buffer.byteLength(execution.json) > INLINE_RESULT_BYTES_MAX;
  if (execution.files.length === 0 && !large) return { resultJson: execution.json, keys: [] };
  const stored: StoredFile[] = [];
  const put = async (path: string, bytes: Uint8Array, contentType: string, extension: string): Promise<void> => {
    const part = stored.length === 0 ? "" : `-${stored.length + 1}`;
    const key = `results/${taskId}-${fence}${part}.${extension}`;
    const stat = await blobs.put(key, bytes, { contentType, sizeBytes: bytes.byteLength, signal });
    stored.push({ path, key, sha256: stat.sha256, sizeBytes: stat.sizeBytes, contentType });
  };
  try {
    for (const { path, file } of execution.files) {
      await put(path, file.bytes, file.contentType, EXTENSIONS[file.contentType] ?? "bin");
    }
    if (execution.files.length === 0) {
      await put("/s3_key", new TextEncoder().encode(execution.json), "application/json", "json");
    }
  } catch (error) {
    await Promise.allSettled(stored.map(({ key }) => blobs.delete(key)));
    throw error;
  }
  const first = stored[0];
  const output = large && execution.files.length === 0 ? {} : execution.output;
  const result = {
    ...(withKeys(output, stored) as object),
    ...(first && { sha256: first.sha256, size_bytes: first.sizeBytes, content_type: first.contentType }),
  };
  return { resultJson: JSON.stringify(result), keys: stored.map(({ key }) => key) };
}
