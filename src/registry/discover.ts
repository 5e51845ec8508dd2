// Finds the files that may define runners. Called by loader.ts. The file name alone says who imports a file:
// `plugins/<name>.ts` and `plugins/<name>/plugin.ts` belong to actors; `app.ts` beside it belongs to the gateway and is
// never touched here.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../errors.ts";

export interface RunnerFolders {
  /** `<name>.ts` in it. */
  readonly runnersDir: string;
  /** `<name>.ts` and `<name>/plugin.ts` in it. May be missing. */
  readonly pluginsDir: string;
}

/** A folder with more is not a plugins folder but a mistake in PLUGINS_DIR. */
const FILES_MAX = 1_000;

/** Absolute paths: those of `runnersDir`, then those of `pluginsDir`, each by name. Throws `invalid_config`. */
export async function discover(folders: RunnerFolders): Promise<readonly string[]> {
  const runners = await entriesOf(folders.runnersDir);
  const plugins = await entriesOf(folders.pluginsDir);
  const found = runners.filter((entry) => entry.isModule).map((entry) => entry.path);
  for (const entry of plugins) {
    if (entry.isModule) found.push(entry.path);
    else if (
      entry.isFolder &&
      (await entriesOf(entry.path)).some((inner) => inner.isModule && inner.name === "plugin.ts")
    ) {
      found.push(join(entry.path, "plugin.ts"));
    }
  }
  if (found.length > FILES_MAX) throw new AppError("invalid_config", `more than ${FILES_MAX} runner files`);
  return found;
}

interface Entry {
  readonly name: string;
  readonly path: string;
  /** A TypeScript file that is neither hidden, a test nor a declaration. */
  readonly isModule: boolean;
  readonly isFolder: boolean;
}

async function entriesOf(folder: string): Promise<readonly Entry[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new AppError("invalid_config", `the folder ${folder} cannot be read`, { cause: error });
  });
  return entries
    .filter((entry) => !entry.name.startsWith("."))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((entry) => ({
      name: entry.name,
      path: join(folder, entry.name),
      isModule: !entry.isDirectory() && /(?<!\.test|\.d)\.ts$/.test(entry.name),
      isFolder: entry.isDirectory() && entry.name !== "node_modules",
    }));
}
