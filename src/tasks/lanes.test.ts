import { afterEach, beforeEach, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import type { Lane } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { openReadModel } from "../db/db.ts";
import { silentLog } from "../log.ts";
import { createLanes, LANE_A_MAX, type Lanes } from "./lanes.ts";
import type { KeyQueue } from "./store.ts";

const queue: KeyQueue = { keyId: "busy", level: "normal", model: "echo" };

forEachDatabase((databases) => {
  let db: Awaited<ReturnType<typeof openReadModel>>;
  let lanes: Lanes;
  let nowMs: number;
  let ids: number;
  const clock: Clock = { now: () => nowMs, monotonicMs: () => nowMs };
  beforeEach(async () => {
    db = await openReadModel(await databases.empty());
    nowMs = 1_000_000;
    ids = 0;
    lanes = createLanes({ sql: db.sql, clock, log: silentLog });
  });
  afterEach(async () => {
    await lanes.settled();
    await db.close();
  });

  /** So many tasks come; the lanes they get. */
  const come = (count: number, to: KeyQueue = queue): Lane[] =>
    Array.from({ length: count }, () => lanes.place(`task-${ids++}`, to).lane);
  const countOf = (lane: Lane, all: readonly Lane[]): number => all.filter((each) => each === lane).length;
  /** So many open tasks in the read model, as if another gateway had taken them. */
  const insert = async (count: number, fields: object = {}): Promise<void> => {
    const row = { key_id: "busy", model: "echo", priority: "normal", created_ms: 1, metadata: "{}", ...fields };
    const rows = Array.from({ length: count }, (_, i) => ({
      task_id: `row-${ids++}-${i}`,
      status: "PENDING",
      attempt: 0,
      ...row,
    }));
    await db.sql`INSERT INTO tasks ${db.sql(rows)}`;
  };
  /** Lets a second pass in which the key sends some tasks, and what they set off end. */
  const secondPasses = async (to: KeyQueue = queue): Promise<Lane[]> => {
    nowMs += 1_000;
    const got = come(LANE_A_MAX / 2, to);
    await lanes.settled();
    return got;
  };

  test("the first tasks of a key in a queue go to lane a, what comes while they are open to lane b", () => {
    expect(come(LANE_A_MAX)).toEqual(Array(LANE_A_MAX).fill("a"));
    expect(come(3)).toEqual(["b", "b", "b"]);
    lanes.ended("task-0");
    lanes.ended("task-0");
    lanes.ended("nobody's");
    expect(come(1)).toEqual(["b"]);
    for (let i = 1; i <= 4; i++) lanes.ended(`task-${i}`);
    expect(come(2)).toEqual(["a", "b"]);
  });

  test("other keys, models and levels have lanes of their own", () => {
    come(LANE_A_MAX + 1);
    for (const other of [{ keyId: "calm" }, { model: "chat" }, { level: "high" as const }]) {
      expect(countOf("a", come(LANE_A_MAX + 1, { ...queue, ...other }))).toBe(LANE_A_MAX);
    }
  });

  test("what was not put there is given back, and a request that is asked for again counts once", () => {
    const first = lanes.place("first", queue);
    for (let i = 0; i < 100; i++) lanes.place("first", queue).giveBack();
    expect(countOf("a", come(LANE_A_MAX))).toBe(LANE_A_MAX - 1);
    first.giveBack();
    first.giveBack();
    for (let i = 0; i < 100; i++) lanes.place(`refused-${i}`, queue).giveBack();
    lanes.ended("task-0");
    expect(come(2)).toEqual(["a", "b"]);
  });

  test("what other gateways took is known when the read model has it; at most half a lane goes by before", async () => {
    await insert(LANE_A_MAX);
    expect(countOf("a", come(LANE_A_MAX / 2))).toBe(LANE_A_MAX / 2);
    await lanes.settled();
    expect(come(10)).toEqual(Array(10).fill("b"));
  });

  test("what has ended, waits for its time, or is another's does not count", async () => {
    await insert(LANE_A_MAX, { finished_ms: 2, status: "FAILURE" });
    await insert(LANE_A_MAX, { due_ms: 2_000_000 });
    await insert(LANE_A_MAX, { key_id: "other" });
    await insert(LANE_A_MAX, { model: "other" });
    await insert(LANE_A_MAX, { priority: "high" });
    await insert(LANE_A_MAX - 1);
    await secondPasses();
    expect(come(1)).toEqual(["a"]);
  });

  test("where more end in a second, so many go to lane a, for as long as they do; what was given back is no end", () => {
    for (let i = 0; i < 50; i++) {
      lanes.place(`given-back-${i}`, queue).giveBack();
      come(1);
      lanes.ended(`task-${i}`);
    }
    expect(countOf("a", come(100))).toBe(50);
    for (let i = 50; i < 150; i++) lanes.ended(`task-${i}`);
    nowMs += 1_000;
    expect(countOf("a", come(200))).toBe(150);
    for (let i = 150; i < 350; i++) lanes.ended(`task-${i}`);
    nowMs += 2_000;
    expect(countOf("a", come(100))).toBe(LANE_A_MAX);
  });

  test("an end that is never heard is forgotten, and a queue that has drained is lane a's again", async () => {
    come(LANE_A_MAX);
    expect(come(1)).toEqual(["b"]);
    nowMs += 6_000;
    expect(come(1)).toEqual(["b"]);
    nowMs += 6_000;
    expect(countOf("a", come(1))).toBe(1);
    await insert(LANE_A_MAX);
    await secondPasses();
    expect(come(1)).toEqual(["b"]);
    nowMs += 12_000;
    expect(come(1)).toEqual(["a"]);
  });
});
