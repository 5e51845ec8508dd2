// One object as one file: the content, then a footer of 512 bytes (a line of JSON: size, SHA-256, content type). folder.ts
// says why, and where the files are. What is read from a file is never trusted: one that `writeObject` did not write
// whole is `blob_corrupt`.
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type BlobPutOptions, type BlobStat, type ByteRange, checkContentType, corrupt } from "./blobs.ts";
import { errnoOf, onDisk, readFully } from "./disk.ts";
import { chunksOf, type IntakeLimits } from "./intake.ts";

/** The longest line is 380 bytes: a content type of 127 quotes, each escaped. */
const FOOTER_BYTES = 512;
/** One read from the disk. */
const CHUNK_BYTES = 256 * 1024;

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = constants;

export interface ObjectFile extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly stat: BlobStat;
}

/** A new file, for this user alone. */
export const createFile = (path: string): Promise<FileHandle> =>
  onDisk(() => open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600));

/** Writes a new file; once this resolves its bytes are on the disk, its name may not be. Throws as `chunksOf`. */
export async function writeObject(
  path: string,
  key: string,
  content: Uint8Array | ReadableStream<Uint8Array>,
  options: BlobPutOptions,
  limits: IntakeLimits,
): Promise<BlobStat> {
  await using handle = await createFile(path);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of chunksOf(content, options, limits)) {
    hash.update(chunk);
    sizeBytes += chunk.length;
    await onDisk(() => handle.writeFile(chunk));
  }
  const stat: BlobStat = { key, sizeBytes, sha256: hash.digest("hex"), contentType: options.contentType };
  await onDisk(async () => {
    await handle.writeFile(encodeFooter(stat));
    await handle.sync();
  });
  return stat;
}

/** Null when there is no such file. The caller disposes of it. Throws `blob_corrupt`, also for links and pipes. */
export async function openObject(path: string, key: string): Promise<ObjectFile | null> {
  const handle = await openFile(path, key);
  if (handle === null) return null;
  try {
    const stat = await readFooter(handle, key);
    return { handle, stat, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The content or a part of it, read as it is asked for; disposes of `object` at the end, on error and on cancel. */
export function contentStream(object: ObjectFile, range: ByteRange | undefined): ReadableStream<Uint8Array> {
  let position = range?.start ?? 0;
  const end = Math.min(object.stat.sizeBytes, (range?.end ?? Number.POSITIVE_INFINITY) + 1);
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          if (position < end) {
            const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - position));
            await onDisk(() => readFully(object.handle, chunk, position));
            position += chunk.length;
            controller.enqueue(chunk);
          }
          if (position < end) return;
          await object[Symbol.asyncDispose]();
          controller.close();
        } catch (error) {
          await object[Symbol.asyncDispose]();
          throw error;
        }
      },
      cancel: () => object[Symbol.asyncDispose](),
    },
    { highWaterMark: 0 },
  );
}

async function openFile(path: string, key: string): Promise<FileHandle | null> {
  try {
    // O_NONBLOCK: opening a named pipe that somebody planted must not wait for a writer.
    return await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT") return null;
    if (errno === "ELOOP" || errno === "ENXIO") throw corrupt(key);
    throw error;
  }
}

type Footer = Omit<BlobStat, "key">;

function encodeFooter({ sizeBytes, sha256, contentType }: Footer): Buffer {
  const line = JSON.stringify({ millrace: 1, sizeBytes, sha256, contentType });
  return Buffer.from(`${line.padEnd(FOOTER_BYTES - 1)}\n`);
}

async function readFooter(handle: FileHandle, key: string): Promise<BlobStat> {
  const file = await handle.stat();
  const sizeBytes = file.size - FOOTER_BYTES;
  if (!file.isFile() || sizeBytes < 0) throw corrupt(key);
  const bytes = new Uint8Array(FOOTER_BYTES);
  await readFully(handle, bytes, sizeBytes);
  const footer = parseFooter(bytes);
  if (footer?.sizeBytes !== sizeBytes) throw corrupt(key);
  return { key, ...footer };
}

/** Null for anything that `encodeFooter` did not write. */
function parseFooter(bytes: Uint8Array): Footer | null {
  try {
    const { millrace, sizeBytes, sha256, contentType } = JSON.parse(new TextDecoder().decode(bytes));
    if (millrace !== 1 || !Number.isSafeInteger(sizeBytes)) return null;
    if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256) || typeof contentType !== "string") return null;
    checkContentType(contentType);
    return { sizeBytes, sha256, contentType };
  } catch {
    return null;
  }
}
