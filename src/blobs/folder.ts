// The object store of one machine: a folder, DATA_DIR/blobs, shared by every process there. It must never follow a
// symbolic link below its root, show half an object, or call an object stored before a power cut would spare it.
//
// An object is one file, content and description together (object-file.ts). So a single rename replaces both, one fsync
// covers both, and there is no order in which a crash or two concurrent puts could pair one object's content with
// another's description, as a sidecar file would allow. Programs that read a picture or a sound stop at its own end and
// open the file as it is.
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
import { randomToken } from "../ids.ts";
import {
  type BlobEntry,
  type BlobPutOptions,
  type BlobStat,
  type Blobs,
  checkContentType,
  checkKey,
  checkPrefix,
  checkRange,
  corrupt,
  notFound,
  OBJECT_BYTES_MAX,
  tooLarge,
} from "./blobs.ts";
import { errnoOf, ignoreMissing, onDisk, readFully } from "./disk.ts";
import { discard, STEP_DEADLINE_MS } from "./intake.ts";
import { contentStream, createFile, type ObjectFile, openObject, writeObject } from "./object-file.ts";

/** A put writes at least every STEP_DEADLINE_MS, so an hour without a write means that its process died. */
const LEFTOVER_MS = 3_600_000;
const TEMP = "tmp";
const FOLDERS: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

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
    prepared ??= onDisk(() => prepare(rootDir)).catch((error: unknown) => {
      prepared = null;
      throw error;
    });
    return prepared;
  };

  const find = async (key: string): Promise<ObjectFile | null> => {
    checkKey(key);
    const place = placeOf(await root(), key);
    await checkFolder(place.folder);
    return openObject(place.file, key);
  };

  const get = async (key: string): Promise<ObjectFile> => {
    const object = await find(key);
    if (object === null) throw notFound(key);
    return object;
  };

  return {
    put: async (key, content, putOptions) => {
      try {
        checkKey(key);
        checkContentType(putOptions.contentType);
        return await putObject(await root(), key, content, putOptions, sizeBytesMax);
      } catch (error) {
        discard(content);
        throw error;
      }
    },
    get: async (key, range) => {
      if (range) checkRange(range);
      return contentStream(await onDisk(() => get(key)), range);
    },
    read: (key, readBytesMax) =>
      onDisk(async () => {
        await using object = await get(key);
        return await readObject(object, readBytesMax);
      }),
    stat: (key) =>
      onDisk(async () => {
        await using object = await find(key);
        return object?.stat ?? null;
      }),
    delete: (key) =>
      onDisk(async () => {
        checkKey(key);
        const place = placeOf(await root(), key);
        await using folder = await openFolder(place.folder);
        await unlink(place.file).catch(ignoreMissing);
        await folder.sync();
      }),
    list: (prefix) => entries(root, prefix),
    ready: () =>
      onDisk(async () => {
        const probe = join(await root(), TEMP, randomToken());
        const file = await createFile(probe);
        try {
          await file.write("x"); // an empty file finds room on a full disk
          await file.datasync();
        } finally {
          await file.close();
          await unlink(probe);
        }
      }),
  };
}

/** Folder by folder, so that a million names are never in memory at once. */
async function* entries(root: () => Promise<string>, prefix: string): AsyncGenerator<BlobEntry, void, void> {
  checkPrefix(prefix);
  const base = await root();
  await onDisk(() => sweep(join(base, TEMP))); // a process that runs for months lists now and again
  const begins = prefix.replaceAll("/", "+");
  for (const folder of FOLDERS) {
    const names = await onDisk(() => readdir(join(base, folder)));
    for (const name of names) {
      if (!name.startsWith(begins)) continue;
      const found = await onDisk(() => lstat(join(base, folder, name)).catch(ignoreMissing));
      if (found?.isFile()) yield { key: name.replaceAll("+", "/"), storedAtMs: found.mtimeMs };
    }
  }
}

interface Place {
  readonly folder: string;
  readonly file: string;
}

function placeOf(base: string, key: string): Place {
  const folder = join(base, sha256(Buffer.from(key)).slice(0, 2));
  return { folder, file: join(folder, key.replaceAll("/", "+")) };
}

/** Makes what is missing below `rootDir`, makes it durable, and removes what dead processes left. */
async function prepare(rootDir: string): Promise<string> {
  const firstMade = await mkdir(rootDir, { recursive: true, mode: 0o700 });
  const base = await realpath(rootDir);
  for (const name of [TEMP, ...FOLDERS]) {
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

async function putObject(
  base: string,
  key: string,
  content: Uint8Array | ReadableStream<Uint8Array>,
  options: BlobPutOptions,
  sizeBytesMax: number,
): Promise<BlobStat> {
  const temp = join(base, TEMP, randomToken());
  const place = placeOf(base, key);
  await using folder = await onDisk(() => openFolder(place.folder));
  try {
    const stat = await writeObject(temp, key, content, options, { sizeBytesMax, deadlineMs: STEP_DEADLINE_MS });
    options.signal?.throwIfAborted();
    await onDisk(async () => {
      await rename(temp, place.file);
      await folder.sync();
    });
    return stat;
  } catch (error) {
    await onDisk(() => unlink(temp).catch(ignoreMissing));
    throw error;
  }
}

async function readObject({ handle, stat }: ObjectFile, sizeBytesMax: number): Promise<Uint8Array> {
  if (stat.sizeBytes > sizeBytesMax) throw tooLarge(sizeBytesMax);
  const bytes = new Uint8Array(stat.sizeBytes);
  await readFully(handle, bytes, 0);
  if (sha256(bytes) !== stat.sha256) throw corrupt(stat.key);
  return bytes;
}

/** Node has no openat, so this look comes before the file is opened and not with it. */
async function checkFolder(path: string): Promise<void> {
  const found = await lstat(path);
  if (!found.isDirectory()) throw new Error("a folder of the store is something else");
}

const { O_RDONLY, O_NOFOLLOW, O_DIRECTORY } = constants;

const openFolder = (path: string): Promise<FileHandle> => open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, O_RDONLY | O_DIRECTORY);
  await folder.sync();
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
