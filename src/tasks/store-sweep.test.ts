import { afterAll, beforeAll, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { owner, startGatewayTasks, type TestTasks } from "../../tests/gateway-tasks.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { randomTaskId } from "../ids.ts";
import { silentLog } from "../log.ts";
import { startJanitor } from "./janitor.ts";
import { sweepStore } from "./store-sweep.ts";

const TTL_MS = 3_600_000;
const DAY_MS = 86_400_000;
const running = new AbortController().signal;
forEachDatabase((databases) => {
  let all: TestTasks;
  let blobs: Blobs;

  beforeAll(async () => {
    all = await startGatewayTasks({ partitions: 2, taskTtlMs: TTL_MS, ...(await databases.empty()) });
    ({ blobs } = all);
  });
  afterAll(() => all.stop());

  const put = async (key: string): Promise<string> => {
    await blobs.put(key, new TextEncoder().encode("x"), { contentType: "image/png" });
    return key;
  };
  const stands = async (keys: readonly string[]): Promise<boolean[]> =>
    Promise.all(keys.map(async (key) => (await blobs.stat(key)) !== null));

  test("what an end names, an open task's objects and young ones stay; what attempts left goes", async () => {
    const { taskId: ended } = await all.submit();
    const named = await put(`results/${ended}-f1.png`);
    const second = await put(`results/${ended}-f1-2.png`);
    const lost = await put(`results/${ended}-f2.png`);
    await all.end(ended, { result: { s3_key: named, mask: second } });
    await all.projected(ended);
    const { taskId: open } = await all.submit();
    const early = await put(`results/${open}-f1.png`);
    const input = await put(`inputs/${open}-n1.json`);
    const unheardOf = randomTaskId(Date.now());
    const orphan = await put(`inputs/${unheardOf}-n1.json`);
    const foreign = await put("results/not-of-a-task.png");
    const keys = [named, second, lost, early, input, orphan, foreign];

    expect(await sweepStore(all, running)).toBe(0);
    expect(await stands(keys)).toEqual(keys.map(() => true));
    all.advance(DAY_MS + TTL_MS + 1_000);
    expect(await sweepStore(all, running)).toBe(2);
    expect(await stands(keys)).toEqual([true, true, false, true, true, false, true]);
    expect(await all.tasks.result(ended, owner)).not.toBeNull();
  });

  test("when its history is over a task's objects go", async () => {
    const janitor = startJanitor({ ...all, taskTtlMs: TTL_MS, historyTtlMs: 2 * DAY_MS, log: silentLog });
    const { taskId } = await all.submit();
    const keys = [await put(`inputs/${taskId}-n1.json`), await put(`results/${taskId}-f1.png`)];
    await all.end(taskId, { result: { s3_key: keys[1] } });
    await all.projected(taskId);
    all.advance(DAY_MS + TTL_MS + 1_000);
    await janitor.sweep();
    await sweepStore(all, running);
    expect(await stands(keys)).toEqual([false, true]);
    all.advance(2 * DAY_MS);
    await janitor.sweep();
    await sweepStore(all, running);
    expect(await stands(keys)).toEqual([false, false]);
    await janitor.stop();
  });
});
