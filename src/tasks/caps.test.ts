import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import type { Clock } from "../clock.ts";
import { openReadModel } from "../db/db.ts";
import { asAppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import { type CapLimits, type Caps, createCaps, type Room } from "./caps.ts";

forEachDatabase((databases) => {
  let db: Awaited<ReturnType<typeof openReadModel>>;
  let nowMs: number;
  let ids: number;
  const clock: Clock = { now: () => nowMs, monotonicMs: () => nowMs };
  beforeEach(async () => {
    db = await openReadModel(await databases.empty());
    nowMs = 1_000_000;
    ids = 0;
  });
  afterEach(() => db.close());

  const start = (limits: Partial<CapLimits>): Caps =>
    createCaps({ sql: db.sql, limits: { tasksMax: 0, bytesMax: 0, ...limits }, clock, log: silentLog });
  /** How many of so many tasks there was room for. */
  const come = async (caps: Caps, count: number, input = "{}", keyId = "busy"): Promise<number> => {
    const taken = await Promise.all(
      Array.from({ length: count }, () => caps.take(`task-${ids++}`, keyId, JSON.stringify(input))),
    );
    return taken.filter((room) => !(room instanceof Error)).length;
  };
  /** Open tasks in the read model, as if another gateway had taken them. */
  const insert = async (count: number, fields: object = {}): Promise<void> => {
    const row = { key_id: "busy", model: "echo", priority: "low", created_ms: 1, metadata: "{}", input_bytes: 10 };
    const rows = Array.from({ length: count }, () => ({
      task_id: `row-${ids++}`,
      status: "PENDING",
      attempt: 0,
      ...row,
      ...fields,
    }));
    await db.sql`INSERT INTO tasks ${db.sql(rows)}`;
  };
  const drain = () => db.sql`UPDATE tasks SET finished_ms = 2, status = 'FAILURE'`;

  describe("tasks", () => {
    test("of a key are taken up to the limit, at once; an end makes room; another key has its own", async () => {
      const caps = start({ tasksMax: 20 });
      expect(await come(caps, 50)).toBe(20);
      expect(await come(caps, 5, "{}", "calm")).toBe(5);
      for (const id of [0, 1, 1, 2]) caps.ended(`task-${id}`);
      expect(await come(caps, 50)).toBe(3);
      await caps.settled();
    });

    test("the refusal says the limit and when to try again", async () => {
      const caps = start({ tasksMax: 1 });
      await come(caps, 1);
      const refused = asAppError(await caps.take("more", "busy", "{}"));
      expect(refused).toMatchObject({ code: "too_many_queued", retryAfterS: 5 });
      expect(refused?.message).toContain("1 tasks that have not ended");
    });

    test("a place that is given back is free; the same task asked for again takes none", async () => {
      const caps = start({ tasksMax: 2 });
      const first = await caps.take("first", "busy", "{}");
      for (let i = 0; i < 5; i++) (await caps.take("first", "busy", "{}")) as Room;
      (first as Room).giveBack();
      (first as Room).giveBack();
      expect(await come(caps, 5)).toBe(2);
    });

    test("a stream of tasks that end is never refused, however long", async () => {
      const caps = start({ tasksMax: 5 });
      for (let i = 0; i < 1_000; i++) {
        expect(await come(caps, 4)).toBe(4);
        for (let each = ids - 4; each < ids; each++) caps.ended(`task-${each}`);
      }
    });

    test("of other gateways count once the read model has them; due or not, of any model", async () => {
      const caps = start({ tasksMax: 30 });
      await insert(10, { due_ms: 9 });
      await insert(15, { model: "chat" });
      await insert(40, { finished_ms: 2, status: "FAILURE" });
      await insert(40, { key_id: "other" });
      expect(await come(caps, 8)).toBe(8);
      await caps.settled();
      expect(await come(caps, 1)).toBe(0);
      nowMs += 2_000; // as long as it takes until rows are written, which the eight have none of here
      expect(await come(caps, 10)).toBe(5);
    });

    test("a key that was full is asked about before it is refused, so that nothing stays refused", async () => {
      const caps = start({ tasksMax: 10 });
      await insert(10);
      await come(caps, 8);
      await caps.settled();
      expect(await come(caps, 3)).toBe(0);
      await drain();
      expect(await come(caps, 1)).toBe(0);
      nowMs += 12_000;
      expect(await come(caps, 3)).toBe(3);
    });

    test("an end that is never heard is forgotten", async () => {
      const caps = start({ tasksMax: 10 });
      expect(await come(caps, 11)).toBe(10);
      nowMs += 1_000;
      expect(await come(caps, 1)).toBe(0);
      nowMs += 12_000;
      expect(await come(caps, 1)).toBe(1);
    });
  });

  describe("bytes of inputs", () => {
    test("wait up to the limit, of this gateway and of others; one input alone may be larger", async () => {
      const caps = start({ bytesMax: 1_000 });
      expect(await come(caps, 1, "x".repeat(5_000))).toBe(1);
      expect(await come(caps, 1)).toBe(0);
      caps.ended("task-0");
      expect(await come(caps, 20, "x".repeat(98))).toBe(10);
      expect(await come(caps, 1, "é".repeat(10), "calm")).toBe(1);
      await insert(20, { key_id: "others", input_bytes: 45 });
      expect(await come(caps, 8, "", "others")).toBe(8);
      await caps.settled();
      expect(await come(caps, 1, "x".repeat(200), "others")).toBe(0);
      expect(await come(caps, 1, "x".repeat(80), "others")).toBe(1);
    });
  });

  test("without limits nothing is counted, and nothing is asked", async () => {
    const caps = start({});
    await db.close();
    expect(await come(caps, 100)).toBe(100);
  });

  test("the count reads entries of its index alone", async () => {
    if (databases.name !== "SQLite") return;
    const plan: { detail: string }[] = await db.sql`
      EXPLAIN QUERY PLAN SELECT count(*) AS tasks, coalesce(sum(input_bytes), 0) AS bytes FROM (
        SELECT input_bytes FROM tasks WHERE key_id = ${"k"} AND finished_ms IS NULL LIMIT ${10}) AS counted`;
    expect(plan.map(({ detail }) => detail).join()).toContain("COVERING INDEX tasks_open");
  });
});
