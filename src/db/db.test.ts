import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keptPath, openKept, openReadModel, openUsage, readModelPath, usagePath } from "./db.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-db-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test.each([
  ["the read model", openReadModel, readModelPath, 0],
  ["what is kept", openKept, keptPath, 2],
  ["what is counted", openUsage, usagePath, 0],
] as const)("%s: opened twice, fsynced or not, read by its owner alone", async (_name, open, pathOf, synchronous) => {
  const place = { dataDir: folder, databaseUrl: null };
  const [first, second] = await Promise.all([open(place), open(place)]);
  expect(await first.sql.unsafe("PRAGMA synchronous")).toEqual([{ synchronous }]);
  expect(await second.sql.unsafe("PRAGMA journal_mode")).toEqual([{ journal_mode: "wal" }]);
  await Promise.all([first.close(), second.close()]);
  expect((await stat(pathOf(folder))).mode & 0o777).toBe(0o600);
});
