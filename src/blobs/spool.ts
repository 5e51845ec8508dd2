// The whole of a put's content held where any part of it can be read again: what S3 needs, where size and SHA-256 go
// out before the first byte. Used by minio.ts alone. Small streams stay in memory, larger ones go through a temporary
// file that has no name, so that nothing is left of it however the process ends.
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import { join } from "node:path";
import { randomToken } from "../ids.ts";
import type { BlobPutOptions } from "./blobs.ts";
import { onDisk, readFully } from "./disk.ts";
import { chunksOf, type IntakeLimits } from "./intake.ts";

export interface Spooled extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Lower-case hexadecimal. */
  readonly sha256: string;
  /** The bytes from `start` up to and not including `end`, which lies within the content. */
  part(start: number, end: number): Promise<Uint8Array>;
}

export interface SpoolLimits extends IntakeLimits {
  /** A stream larger than this goes to the disk. */
  readonly memoryBytesMax: number;
  /** Made (0700) when the first stream needs it. */
  readonly dir: string;
}

/** Takes `content` in; errors as `chunksOf`, and `storage_unavailable` when the disk fails. */
export async function spool(
  content: Uint8Array | ReadableStream<Uint8Array>,
  options: BlobPutOptions,
  limits: SpoolLimits,
): Promise<Spooled> {
  const hash = createHash("sha256");
  const memory: Uint8Array[] = [];
  let file: FileHandle | null = null;
  let sizeBytes = 0;
  try {
    for await (const chunk of chunksOf(content, options, limits)) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      if (file === null && (content instanceof Uint8Array || sizeBytes <= limits.memoryBytesMax)) {
        memory.push(chunk);
        continue;
      }
      file ??= await onDisk(() => namelessFile(limits.dir));
      for (const earlier of memory.splice(0)) await write(file, earlier);
      await write(file, chunk);
    }
  } catch (error) {
    await file?.close();
    throw error;
  }
  const sha256 = hash.digest("hex");
  if (file !== null) return onFile(file, sizeBytes, sha256);
  const bytes = memory.length === 1 && memory[0] ? memory[0] : Buffer.concat(memory);
  return {
    sizeBytes,
    sha256,
    part: async (start, end) => bytes.subarray(start, end),
    [Symbol.asyncDispose]: async () => {},
  };
}

const onFile = (file: FileHandle, sizeBytes: number, sha256: string): Spooled => ({
  sizeBytes,
  sha256,
  part: (start, end) =>
    onDisk(async () => {
      const part = new Uint8Array(end - start);
      await readFully(file, part, start);
      return part;
    }),
  [Symbol.asyncDispose]: () => file.close(),
});

async function namelessFile(dir: string): Promise<FileHandle> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, `spool-${randomToken()}`);
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  await unlink(path);
  return file;
}

const write = (file: FileHandle, chunk: Uint8Array): Promise<void> => onDisk(() => file.writeFile(chunk));
