// The rows of deliveries, on both databases, where an attempt and a redelivery by hand meet.
import { expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { openKept } from "../db/db.ts";
import { claim, deliveriesOf, makeDue, settle, takeIn } from "./store.ts";

forEachDatabase((databases) => {
  test("a redelivery asked for during the last attempt is not undone by its failure", async () => {
    const db = await openKept(await databases.empty());
    const { sql } = db;
    const delivery = {
      id: "d",
      taskId: "t",
      keyId: "k",
      event: "task.completed",
      url: "https://example.com/",
      body: "{}",
    };
    await takeIn(sql, [delivery], new Map(), 1_000);
    expect((await claim(sql, ["d"], "lease", 2_000, 32_000)).map(({ id }) => id)).toEqual(["d"]);
    await makeDue(sql, "d", 5_000);
    await settle(
      sql,
      "d",
      "lease",
      { atMs: 6_000, durationMs: 1, status: 500, error: null },
      { state: "failed", nextMs: null },
    );
    expect(await deliveriesOf(sql, "t", "k")).toMatchObject([{ state: "pending", nextMs: 5_000, attempts: [] }]);
    expect((await claim(sql, ["d"], "another", 6_000, 36_000)).map(({ tries }) => tries)).toEqual([0]);
    await db.close();
  });
});
