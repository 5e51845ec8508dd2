// Where benchmarks keep data, logs and results: a folder outside the repository. Every run gets a fresh folder in it and
// nothing is deleted between runs, for a reason that cost others half an hour (see runFolder).
import { existsSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** `BENCH_HOME`, else `~/.cache/millrace-bench`. Its `npm/node_modules` holds the peers' packages. */
export const benchHome = (): string => process.env.BENCH_HOME ?? join(homedir(), ".cache", "millrace-bench");

/** The results of every run, one JSON line each. */
export const resultsFile = (): string => join(benchHome(), "results.jsonl");

/**
 * A fresh folder for one run. ext4 steps over recently deleted inodes one by one for minutes, so creating files where
 * thousands were just deleted costs 0.5 ms of kernel time each. The parent has the T attribute (a new folder below it
 * gets a block group of its own), and runs delete nothing: empty the data folder by hand when no run follows soon.
 */
export function runFolder(name: string): string {
  const parent = join(benchHome(), "data");
  if (!existsSync(parent)) {
    mkdirSync(parent, { recursive: true });
    Bun.spawnSync(["chattr", "+T", parent]); // not on ext4, or not allowed: the numbers may be worse, not wrong
  }
  const folder = join(parent, `${name}-${Date.now()}`);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Bytes allocated on disk under each top entry of `folder`, without logs. */
export function diskUse(folder: string): Record<string, number> {
  const use: Record<string, number> = {};
  for (const entry of readdirSync(folder)) {
    if (!entry.endsWith(".log")) use[entry] = allocatedBytes(join(folder, entry));
  }
  return use;
}

export const totalOf = (use: Readonly<Record<string, number>>): number =>
  Object.values(use).reduce((sum, bytes) => sum + bytes, 0);

function allocatedBytes(path: string): number {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 0; // files come and go while a server runs
  // A folder's own blocks count too: a million entries are megabytes.
  let bytes = stat.blocks * 512;
  if (!stat.isDirectory()) return bytes;
  try {
    for (const entry of readdirSync(path)) bytes += allocatedBytes(join(path, entry));
  } catch {
    // The folder was removed between the two looks.
  }
  return bytes;
}
