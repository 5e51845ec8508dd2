import { expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { type DatabasePlace, openKept, openReadModel } from "./db.ts";
import { openRebuilt } from "./rebuilt.ts";

const streamsOf = async (place: DatabasePlace): Promise<string[]> => {
  const db = await openReadModel(place);
  const rows: { stream: string }[] = await db.sql`SELECT stream FROM cursors ORDER BY stream`;
  await db.close();
  return rows.map(({ stream }) => stream);
};

forEachDatabase(({ empty }) => {
  test("what was rebuilt takes the place of the old one, and only then; what is kept stays", async () => {
    const place = await empty();
    const [old, kept] = await Promise.all([openReadModel(place), openKept(place)]);
    await old.sql`INSERT INTO cursors ${old.sql([{ stream: "OLD", sequence: 1 }])}`;
    await kept.sql`UPDATE api_keys_revision SET revision = 7`;
    await Promise.all([old.close(), kept.close()]);

    const given = await openRebuilt(place);
    await given.sql`INSERT INTO cursors ${given.sql([{ stream: "GIVEN UP", sequence: 1 }])}`;
    await given.sql.close();
    expect(await streamsOf(place)).toEqual(["OLD"]);

    const rebuilt = await openRebuilt(place);
    expect(await rebuilt.sql`SELECT stream FROM cursors`).toBeEmpty();
    await rebuilt.sql`INSERT INTO cursors ${rebuilt.sql([{ stream: "NEW", sequence: 1 }])}`;
    await rebuilt.putInPlace();
    expect(await streamsOf(place)).toEqual(["NEW"]);
    const again = await openKept(place);
    const [row] = await again.sql`SELECT revision FROM api_keys_revision`;
    expect(Number(row.revision)).toBe(7);
    await again.close();
  });
});
