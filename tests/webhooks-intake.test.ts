// Which ends the webhooks' intake reads, on a real broker: everything that the gateway's feed has not cleared.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Db, openKept } from "../src/db/db.ts";
import { partitionOf } from "../src/ids.ts";
import { silentLog } from "../src/log.ts";
import { type Intake, startIntake } from "../src/webhooks/intake.ts";
import { deliveriesOf } from "../src/webhooks/store.ts";
import { owner, startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";
import { until } from "./stack.ts";

let tasks: TestTasks;
let db: Db;
let intake: Intake;

beforeAll(async () => {
  tasks = await startGatewayTasks({ partitions: 2, taskTtlMs: 3_600_000 });
  db = await openKept({ dataDir: tasks.folder, databaseUrl: null });
  // A clock that stands still: once something is cleared no look comes by itself.
  const clock = { now: tasks.clock.now, monotonicMs: () => 0 };
  const { bus, partitions } = tasks;
  intake = await startIntake({ bus, sql: db.sql, partitions, clock, log: silentLog, onRows: () => {} });
});
afterAll(async () => {
  await intake.stop();
  await db.close();
  await tasks.stop();
});

/** An end in partition 0 that asks to be told, and its place there. */
async function endedTask(): Promise<{ taskId: string; sequence: number }> {
  for (;;) {
    const { taskId } = await tasks.submit({ callback_url: "http://127.0.0.1:9/" });
    if (partitionOf(taskId, tasks.partitions) !== 0) continue;
    const committed = await tasks.end(taskId);
    return { taskId, sequence: committed.kind === "won" ? committed.sequence : 0 };
  }
}

const rowsOf = async (taskId: string): Promise<number> => (await deliveriesOf(db.sql, taskId, owner.keyId)).length;
const stands = (taskId: string): Promise<true> =>
  until("the delivery", 10_000, async () => ((await rowsOf(taskId)) === 1 ? true : null));

test("what is cleared is not read, what is not cleared is, and so is a gap before a range", async () => {
  const first = await endedTask();
  await stands(first.taskId);
  intake.cleared([{ partition: 0, from: 1, to: first.sequence }]);
  const hidden = await endedTask();
  intake.cleared([{ partition: 0, from: 1, to: hidden.sequence }]); // not true, which shows that it is believed
  const told = await endedTask();
  intake.cleared([{ partition: 0, from: told.sequence + 1, to: told.sequence + 1 }]);
  await stands(told.taskId);
  expect(await rowsOf(hidden.taskId)).toBe(0);
  const gap = await endedTask();
  const after = await endedTask();
  intake.cleared([{ partition: 0, from: after.sequence, to: after.sequence }]);
  await stands(gap.taskId);
});
