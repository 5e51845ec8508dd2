import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forEachDatabase } from "../../tests/databases.ts";
import { keptPath, openKept, openReadModel, openUsage, readModelPath, usagePath } from "./db.ts";
import { write } from "./dialect.ts";

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

test("what is deleted does not lie in the file any more", async () => {
  const place = { dataDir: folder, databaseUrl: null };
  const db = await openReadModel(place);
  const onDisk = async (): Promise<boolean> => {
    await db.sql.unsafe("PRAGMA wal_checkpoint(TRUNCATE)");
    return (await Bun.file(readModelPath(folder)).text()).includes("the-patient-is-called-miller");
  };
  const stream = "the-patient-is-called-miller".repeat(500);
  await db.sql`INSERT INTO cursors ${db.sql({ stream, sequence: 1 })}`;
  expect(await onDisk()).toBe(true);
  await db.sql`DELETE FROM cursors WHERE stream = ${stream}`;
  expect(await onDisk()).toBe(false);
  await db.close();
});

forEachDatabase(({ empty }) => {
  test("opened by several at the same moment, its tables are made once", async () => {
    const place = await empty();
    const opened = await Promise.all(
      [openReadModel, openReadModel, openKept, openKept, openUsage].map((o) => o(place)),
    );
    for (const { sql } of opened) {
      const rows: { name: string }[] = await sql`SELECT name FROM migrations`;
      expect(rows.length).toBeGreaterThan(0);
    }
    await Promise.all(opened.map(({ close }) => close()));
  });

  test("a write beside a transaction that is taken back stays, and sees nothing of it", async () => {
    const db = await openReadModel(await empty());
    const asked = Promise.withResolvers<void>();
    const put = (stream: string) => ({ stream, sequence: 1 });
    const failed = write(db.sql, async (transaction) => {
      await transaction`INSERT INTO cursors ${transaction(put("taken back"))}`;
      asked.resolve();
      await new Promise((turn) => setImmediate(turn));
      throw new Error("no");
    }).catch((error) => error.message);
    await asked.promise;
    const [, seen] = await Promise.all([
      db.sql`INSERT INTO cursors ${db.sql(put("beside"))}`,
      db.sql`SELECT stream FROM cursors WHERE stream = ${"taken back"}`,
    ]);
    expect([await failed, [...seen]]).toEqual(["no", []]);
    const left: { stream: string }[] = await db.sql`SELECT stream FROM cursors`;
    expect(left.map(({ stream }) => stream)).toEqual(["beside"]);
    await db.close();
  });
});
