// What is erased must be nowhere: the streams, the rows and the store are looked at, not only what is shown.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { owner, startGatewayTasks, type TestTasks } from "../../tests/gateway-tasks.ts";
import { readRange } from "../bus/log.ts";
import { subjects } from "../bus/subjects.ts";
import { readOldest } from "../bus/trim.ts";
import { asAppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import { createErase, type Erase } from "./erase.ts";
import type { GatewayTasks } from "./gateway.ts";
import { startJanitor } from "./janitor.ts";

const TTL_MS = 3_600_000;
const SECRET = "the-patient-is-called-miller";
forEachDatabase((databases) => {
  let all: TestTasks;
  let erase: Erase;
  let other: GatewayTasks;

  beforeAll(async () => {
    all = await startGatewayTasks({ partitions: 2, taskTtlMs: TTL_MS, ...(await databases.empty()) });
    erase = createErase({ ...all, onErased: async () => {} });
    other = await all.join();
  });
  afterAll(() => all.stop());

  async function endedTask(crid: string, input: object = { text: SECRET }): Promise<{ taskId: string; key: string }> {
    const request = { model: "echo", input, client_request_id: crid };
    const { taskId } = await all.tasks.accept(request, owner, null);
    const key = `results/${taskId}-f1.png`;
    await all.blobs.put(key, new TextEncoder().encode(SECRET), { contentType: "image/png" });
    const event = { v: 1, attempt: 1, n: 1, crashes: 0, event: "delta", data: SECRET };
    all.bus.publish(subjects.events(taskId), JSON.stringify(event));
    await all.end(taskId, { result: { s3_key: key, text: SECRET } });
    await all.projected(taskId);
    return { taskId, key };
  }

  /** Everything that streams, rows and store say, as one text. */
  async function everything(): Promise<string> {
    const texts: string[] = [];
    for (const stream of ["JOBS_0", "JOBS_1", "RESULTS_0", "RESULTS_1", "EVENTS"]) {
      for (const { sequence } of await readOldest(all.bus, stream, 1, 1_000)) {
        const reply = await all.bus.request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify({ seq: sequence }), {
          timeoutMs: 5_000,
        });
        const { message } = JSON.parse(reply.text()) as { message?: { data?: string } };
        texts.push(Buffer.from(message?.data ?? "", "base64").toString());
      }
    }
    texts.push(JSON.stringify(await all.sql`SELECT * FROM tasks`));
    for await (const { key } of all.blobs.list(""))
      texts.push(new TextDecoder().decode(await all.blobs.read(key, 1e6)));
    return texts.join("\n");
  }

  /** What lies on the broker's disk, whether a stream still shows it or not. */
  async function blocks(): Promise<string> {
    const files = [...new Bun.Glob("**/*.blk").scanSync({ cwd: all.folder, absolute: true })];
    return (await Promise.all(files.map((file) => Bun.file(file).text()))).join("\n");
  }

  const codeOf = (call: Promise<unknown>): Promise<string | undefined> =>
    call.then(
      () => undefined,
      (error: unknown) => asAppError(error)?.code,
    );

  test("nothing of it is left anywhere, on any gateway, and how it ended is still told", async () => {
    const { taskId, key } = await endedTask("gone");
    const large = await endedTask("large", { text: SECRET, filler: "x".repeat(20_000) });
    expect(await everything()).toContain(SECRET);
    expect(await blocks()).toContain(SECRET);
    for (const id of [taskId, large.taskId]) {
      const view = await erase(id, owner);
      expect(JSON.parse(view.json)).toMatchObject({ status: "SUCCESS", data_deleted_at: expect.any(String) });
    }
    expect(await everything()).not.toContain(SECRET);
    expect(await blocks()).not.toContain(SECRET);
    expect(await all.blobs.stat(key)).toBeNull();
    for (const gateway of [all.tasks, other]) {
      await all.bus.flush(5_000);
      const { json } = await gateway.read(taskId, owner);
      expect(JSON.parse(json)).not.toHaveProperty("result");
      expect(await codeOf(gateway.result(taskId, owner))).toBe("no_result");
    }
    expect(await readRange(all.bus, "EVENTS", subjects.events(taskId), 1)).toEqual([]);
    // Once more, as after an answer that got lost.
    const again = await erase(taskId, owner);
    expect(JSON.parse(again.json)).toEqual(JSON.parse((await all.tasks.read(taskId, owner)).json));
  });

  test("no second end, and the same request still meets its task", async () => {
    const { taskId } = await endedTask("kept");
    await erase(taskId, owner);
    expect(await all.end(taskId, { result: { text: SECRET } })).toMatchObject({ kind: "lost" });
    const request = { model: "echo", input: { text: SECRET }, client_request_id: "kept" };
    expect(await all.tasks.accept(request, owner, null)).toMatchObject({ taskId, replayed: true, status: "SUCCESS" });
  });

  test("it leaves the logs TASK_TTL later, both records together", async () => {
    const { taskId } = await endedTask("trimmed-later");
    const janitor = startJanitor({ ...all, taskTtlMs: TTL_MS, historyTtlMs: 10 * TTL_MS, log: silentLog });
    all.advance(TTL_MS / 2);
    await erase(taskId, owner);
    await janitor.sweep();
    expect(await all.inLogs(taskId)).toEqual({ job: true, result: true });
    all.advance(2 * TTL_MS);
    await janitor.sweep();
    expect(await all.inLogs(taskId)).toEqual({ job: false, result: false });
    await janitor.stop();
  });

  test("what only history knows is erased as well", async () => {
    const { taskId, key } = await endedTask("history");
    const janitor = startJanitor({ ...all, taskTtlMs: TTL_MS, historyTtlMs: 10 * TTL_MS, log: silentLog });
    all.advance(2 * TTL_MS);
    await janitor.sweep();
    await janitor.stop();
    expect(await all.inLogs(taskId)).toEqual({ job: false, result: false });
    await erase(taskId, owner);
    expect(await all.blobs.stat(key)).toBeNull();
    expect(await everything()).not.toContain(SECRET);
  });

  test("an open task and another key's are refused", async () => {
    const { taskId } = await all.tasks.accept({ model: "echo", input: {} }, owner, null);
    expect(await codeOf(erase(taskId, owner))).toBe("task_not_finished");
    expect(await codeOf(erase(taskId, { keyId: "somebody" }))).toBe("task_not_found");
  });
});
