import { expect, test } from "bun:test";
import { SQL } from "bun";
import { asDatabaseError } from "./postgres.ts";

test("a full disk is no fault of the request, a wrong query is one of ours", async () => {
  await using sql = new SQL({ adapter: "sqlite", filename: ":memory:" });
  await sql`CREATE TABLE texts (text TEXT)`;
  await sql.unsafe("PRAGMA max_page_count = 2");
  const thrown = async (query: Promise<unknown>): Promise<unknown> =>
    query.then(
      () => null,
      (error: unknown) => error,
    );
  const full = await thrown(sql`INSERT INTO texts VALUES (${"x".repeat(100_000)})`.then());
  expect(asDatabaseError(full)).toMatchObject({ code: "database_unavailable" });
  const wrong = await thrown(sql`SELECT nothing FROM texts`.then());
  expect(wrong).toBeInstanceOf(Error);
  expect(asDatabaseError(wrong)).toBeNull();
});
