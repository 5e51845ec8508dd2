import { expect, test } from "bun:test";
import { SQL } from "bun";
import { forEachDatabase } from "../../tests/databases.ts";
import { tryHold } from "./exclusive.ts";

forEachDatabase(({ name, empty }) => {
  if (name === "SQLite") {
    test("there is nobody to share with: granted", async () => {
      const { databaseUrl } = await empty();
      for (const hold of [await tryHold(databaseUrl, "it"), await tryHold(databaseUrl, "it")]) await hold?.release();
    });
    return;
  }

  test("one has the right until it gives it back, and each name and each schema is a right of its own", async () => {
    const [{ databaseUrl }, elsewhere] = [await empty(), await empty()];
    const hold = await tryHold(databaseUrl, "it");
    expect(hold).not.toBeNull();
    expect(await tryHold(databaseUrl, "it")).toBeNull();
    const others = [await tryHold(databaseUrl, "another"), await tryHold(elsewhere.databaseUrl, "it")];
    expect(others).not.toContain(null);
    await hold?.release();
    const next = await tryHold(databaseUrl, "it");
    expect(next).not.toBeNull();
    for (const each of [next, ...others]) await each?.release();
  });

  test("a holder whose session ends hears of it, and another has the right at once", async () => {
    const { databaseUrl } = await empty();
    const hold = await tryHold(databaseUrl, "it");
    const sql = new SQL(databaseUrl ?? "", { max: 1 });
    // As PostgreSQL does with one that it has not heard for five seconds.
    await sql`
      SELECT pg_terminate_backend(pid) FROM pg_locks
      WHERE locktype = 'advisory' AND classid = (hashtext('millrace it')::bigint & 4294967295)::oid
        AND objid = (hashtext(current_schema())::bigint & 4294967295)::oid`;
    let next = await tryHold(databaseUrl, "it");
    for (let tries = 0; next === null && tries < 50; tries++) next = await tryHold(databaseUrl, "it");
    expect(next).not.toBeNull();
    await hold?.lost;
    await sql.close();
    await hold?.release();
    expect(await tryHold(databaseUrl, "it")).toBeNull();
    await next?.release();
  });
});
