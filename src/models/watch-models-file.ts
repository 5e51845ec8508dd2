// models.yaml on the disk: found, read, and read again when it has changed. A file that is not valid changes nothing:
// the last good one stays, and the log says what is wrong. llm-catalogue.ts opens it; it is never written.
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { AppError, asAppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { type ModelsFile, parseModelsFile, type Variables } from "./models-file.ts";

export interface WatchOptions {
  /** Absolute; null: models.yaml in the working folder, else the one in the repository. */
  readonly path: string | null;
  readonly variables: Variables;
  readonly log: Log;
  /** After a change that was taken over. */
  readonly onChange: () => void;
}

export interface WatchedFile {
  /** The last good one. */
  file(): ModelsFile;
  stop(): void;
}

/** By polling, which sees every way to replace a file, over a network too; a change is taken once it has lasted a poll. */
const POLL_MS = 500;
/** Some three thousand models. A process stands still while it reads the file: ten seconds for each megabyte. */
const FILE_BYTES_MAX = 256 * 1024;

/** Resolves when it was read. Throws `invalid_config` where it is missing or not valid. */
export async function watchModelsFile({ path, variables, log, onChange }: WatchOptions): Promise<WatchedFile> {
  const here = path ?? foundPath();
  let applied = await signatureOf(here); // first: what changes in between is seen as a change
  let file = await load(here, variables);
  let seen = applied;
  let looking = false;
  const look = async (): Promise<void> => {
    if (looking) return;
    looking = true;
    const signature = await signatureOf(here);
    const settled = signature === seen;
    seen = signature;
    looking = false;
    if (!settled || signature === applied) return;
    applied = signature;
    try {
      file = await load(here, variables);
    } catch (error) {
      log.error({ file: here, error: messageOf(error) }, "the models file is not taken over; the last good one stays");
      return;
    }
    log.info(
      { file: here, providers: file.providers.size, models: file.models.size },
      "the models file was loaded anew",
    );
    onChange();
  };
  const timer = setInterval(() => void look(), POLL_MS);
  return { file: () => file, stop: () => clearInterval(timer) };
}

function foundPath(): string {
  const here = resolve("models.yaml");
  return existsSync(here) ? here : join(import.meta.dir, "../../models.yaml");
}

/** Changes with every write and every replacement. */
const signatureOf = (path: string): Promise<string> =>
  stat(path).then(
    ({ ino, mtimeMs, size }) => `${ino} ${mtimeMs} ${size}`,
    () => "missing",
  );

async function load(path: string, variables: Variables): Promise<ModelsFile> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new AppError("invalid_config", `the models file ${path} is no file`);
    if (found.size > FILE_BYTES_MAX) {
      throw new AppError("invalid_config", `the models file ${path} has more than ${FILE_BYTES_MAX} bytes`);
    }
    return parseModelsFile(await readFile(path, "utf8"), variables);
  } catch (error) {
    const known = asAppError(error);
    throw new AppError("invalid_config", `${path}: ${known?.message ?? "the models file cannot be read"}`, {
      cause: error,
      fields: known?.fields ?? [],
    });
  }
}
