// The object store of one machine: a folder, DATA_DIR/blobs, shared by every process there. It must never follow a
// symbolic link below its root, show half an object, or call an object stored before a power cut would spare it.
//
// An object is one file: the content, then a footer of 512 bytes (one line of JSON: size, SHA-256, content type). So a
// single rename replaces content and description together, one fsync covers both, and there is no order in which a crash
// or two concurrent puts could pair one object's content with another's description, as a sidecar file would allow.
// Programs that read a picture or a sound stop at its own end and open the file as it is.
//
//   tmp/<random>                      being written; fsync, then renamed, then fsync of the folder
//   <first 2 hex of SHA-256(key)>/<key, "/" as "+">
//
// The 256 folders keep each of them small, and they exist from the start: a missing one means that the store is gone
// (an unmounted disk), which must not look like a missing object.
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readdir, realpath, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { AppError, asAppError } from "../errors.ts";
import { randomToken } from "../ids.ts";
import {
  type BlobPutOptions,
  type BlobStat,
  type Blobs,
  type ByteRange,
  checkContentType,
  checkKey,
  checkRange,
  corrupt,
  notFound,
  OBJECT_BYTES_MAX,
  tooLarge,
} from "./blobs.ts";
import { encodeFooter, FOOTER_BYTES, parseFooter } from "./footer.ts";
import { chunksOf, discard, STEP_DEADLINE_MS } from "./intake.ts";

/** One read from the disk. */
const CHUNK_BYTES = 256 * 1024;
/** A put writes at least every STEP_DEADLINE_MS, so an hour without a write means that its process died. */
const LEFTOVER_MS = 3_600_000;
const TEMP = "tmp";

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

export interface FolderBlobsOptions {
  /** Default 1 GiB. */
  readonly sizeBytesMax?: number;
}

/**
 * A store in `rootDir` (absolute; it may itself be a link to another disk). Folders are made 0700 and files 0600 by
 * `ready` or the first call; a root that vanishes later is an error, never made anew.
 */
export function folderBlobs(rootDir: string, options: FolderBlobsOptions = {}): Blobs {
  const sizeBytesMax = options.sizeBytesMax ?? OBJECT_BYTES_MAX;
  let prepared: Promise<string> | null = null;

  /** The real path of the root, once its folders exist for good. */
  const root = (): Promise<string> => {
    prepared ??= stored(() => prepare(rootDir)).catch((error: unknown) => {
      prepared = null;
      throw error;
    });
    return prepared;
  };

  const put = async (key: string, content: Uint8Array | ReadableStream<Uint8Array>, put: BlobPutOptions) => {
    checkKey(key);
    checkContentType(put.contentType);
    const base = await root();
    const temp = join(base, TEMP, randomToken());
    const place = placeOf(base, key);
    await using folder = await stored(() => openFolder(place.folder));
    try {
      const stat = await writeObject(temp, key, content, put, sizeBytesMax);
      put.signal?.throwIfAborted();
      await stored(async () => {
        await rename(temp, place.file);
        await folder.sync();
      });
      return stat;
    } catch (error) {
      await stored(() => unlink(temp).catch(ignoreMissing));
      throw error;
    }
  };

  const opened = async (key: string): Promise<OpenObject> => {
    checkKey(key);
    const object = await openObject(placeOf(await root(), key), key);
    if (object === null) throw notFound(key);
    return object;
  };

  return {
    put: async (key, content, putOptions) => {
      try {
        return await put(key, content, putOptions);
      } catch (error) {
        discard(content);
        throw error;
      }
    },
    get: async (key, range) => {
      if (range) checkRange(range);
      return stored(async () => contentStream(await opened(key), range));
    },
    read: (key, readBytesMax) =>
      stored(async () => {
        await using object = await opened(key);
        if (object.stat.sizeBytes > readBytesMax) throw tooLarge(readBytesMax);
        const bytes = new Uint8Array(object.stat.sizeBytes);
        await readFully(object.handle, bytes, 0);
        if (sha256(bytes) !== object.stat.sha256) throw corrupt(key);
        return bytes;
      }),
    stat: (key) =>
      stored(async () => {
        checkKey(key);
        await using object = await openObject(placeOf(await root(), key), key);
        return object?.stat ?? null;
      }),
    delete: (key) =>
      stored(async () => {
        checkKey(key);
        const place = placeOf(await root(), key);
        await using folder = await openFolder(place.folder);
        await unlink(place.file).catch(ignoreMissing);
        await folder.sync();
      }),
    ready: () =>
      stored(async () => {
        const probe = join(await root(), TEMP, randomToken());
        await using _file = await open(probe, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
        await unlink(probe);
      }),
  };
}

interface Place {
  readonly folder: string;
  readonly file: string;
}

interface OpenObject extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly stat: BlobStat;
}

/** Makes what is missing below `rootDir`, makes it durable, and removes what dead processes left. */
async function prepare(rootDir: string): Promise<string> {
  const firstMade = await mkdir(rootDir, { recursive: true, mode: 0o700 });
  const base = await realpath(rootDir);
  const folders = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
  for (const name of [TEMP, ...folders]) {
    await mkdir(join(base, name), { mode: 0o700 }).catch((error: unknown) => {
      if (errnoOf(error) !== "EEXIST") throw error;
    });
  }
  await syncFolder(base);
  // Each folder that was made is an entry of the one above it, which has to be on the disk as well.
  for (let made = rootDir; firstMade !== undefined && made.length >= firstMade.length; made = dirname(made)) {
    await syncFolder(dirname(made));
  }
  await sweep(join(base, TEMP));
  return base;
}

async function sweep(tempDir: string): Promise<void> {
  for (const name of await readdir(tempDir)) {
    const file = join(tempDir, name);
    const found = await lstat(file).catch(ignoreMissing);
    if (found && Date.now() - found.mtimeMs > LEFTOVER_MS) await unlink(file).catch(ignoreMissing);
  }
}

function placeOf(base: string, key: string): Place {
  const folder = join(base, sha256(Buffer.from(key)).slice(0, 2));
  return { folder, file: join(folder, key.replaceAll("/", "+")) };
}

async function writeObject(
  temp: string,
  key: string,
  content: Uint8Array | ReadableStream<Uint8Array>,
  options: BlobPutOptions,
  sizeBytesMax: number,
): Promise<BlobStat> {
  await using handle = await stored(() => open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600));
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of chunksOf(content, options, { sizeBytesMax, deadlineMs: STEP_DEADLINE_MS })) {
    hash.update(chunk);
    sizeBytes += chunk.length;
    await stored(() => handle.writeFile(chunk));
  }
  const stat: BlobStat = { key, sizeBytes, sha256: hash.digest("hex"), contentType: options.contentType };
  await stored(async () => {
    await handle.writeFile(encodeFooter(stat));
    await handle.sync();
  });
  return stat;
}

/** Null when there is no such file. The caller closes it. */
async function openObject(place: Place, key: string): Promise<OpenObject | null> {
  const folder = await lstat(place.folder);
  if (!folder.isDirectory()) throw unavailable(new Error("a folder of the store is not a folder"));
  const handle = await openFile(place.file, key);
  if (handle === null) return null;
  try {
    const stat = await readFooter(handle, key);
    return { handle, stat, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openFile(file: string, key: string): Promise<FileHandle | null> {
  try {
    // O_NONBLOCK: opening a named pipe that somebody planted must not wait for a writer.
    return await open(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT") return null;
    if (errno === "ELOOP" || errno === "ENXIO") throw corrupt(key);
    throw error;
  }
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

function contentStream(object: OpenObject, range: ByteRange | undefined): ReadableStream<Uint8Array> {
  let position = range?.start ?? 0;
  const end = Math.min(object.stat.sizeBytes, (range?.end ?? Number.POSITIVE_INFINITY) + 1);
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          if (position < end) {
            const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - position));
            await readFully(object.handle, chunk, position);
            position += chunk.length;
            controller.enqueue(chunk);
          }
          if (position < end) return;
          await object[Symbol.asyncDispose]();
          controller.close();
        } catch (error) {
          await object[Symbol.asyncDispose]();
          throw unavailable(error);
        }
      },
      cancel: () => object[Symbol.asyncDispose](),
    },
    { highWaterMark: 0 },
  );
}

async function readFully(handle: FileHandle, into: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await handle.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new AppError("blob_corrupt", "The object ends early");
    done += bytesRead;
  }
}

const openFolder = (path: string): Promise<FileHandle> => open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, O_RDONLY | O_DIRECTORY);
  await folder.sync();
}

/**
 * Runs a call in which every error that is not ours comes from the file system. What a put's source throws or its signal
 * says stays outside: that is the caller's own.
 */
async function stored<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw unavailable(error);
  }
}

function ignoreMissing(error: unknown): null {
  if (errnoOf(error) !== "ENOENT") throw error;
  return null;
}

const errnoOf = (error: unknown): string | null =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;

const unavailable = (cause: unknown): AppError =>
  asAppError(cause) ?? new AppError("storage_unavailable", "The object store cannot be used", { cause });

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
