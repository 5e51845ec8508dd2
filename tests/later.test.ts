// Tasks that wait for a time, and tasks that nobody starts in time: a real broker, gateways without actors.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { parseJob, parseLater, streams, subjects } from "../src/bus/subjects.ts";
import { lastSequence } from "../src/bus/topology.ts";
import { readOldest } from "../src/bus/trim.ts";
import { forEachDatabase } from "./databases.ts";
import { owner, startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";

forEachDatabase((databases) => {
  let gateway: TestTasks;
  beforeEach(async () => {
    gateway = await startGatewayTasks({ partitions: 2, taskTtlMs: 3_600_000, ...(await databases.empty()) });
  });
  afterEach(() => gateway.stop());

  const accept = (fields: object) => gateway.tasks.accept({ model: "echo", input: {}, ...fields }, owner, null);
  const inMs = (ms: number): string => new Date(gateway.clock.now() + ms).toISOString();
  const read = async (taskId: string) => JSON.parse((await gateway.tasks.read(taskId, owner)).json);
  const ended = async (taskId: string) => {
    const view = await gateway.tasks.wait(taskId, owner, 10_000, new AbortController().signal);
    return JSON.parse(view.json);
  };

  /** The levels at which jobs stand, `later` among them, by task. */
  async function levels(): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>();
    for (let p = 0; p < gateway.partitions; p++) {
      for (const { subject } of await readOldest(gateway.bus, streams.jobs(p), 1, 1_000)) {
        const job = parseJob(subject);
        const taskId = job?.taskId ?? parseLater(subject)?.taskId ?? "";
        found.set(taskId, [...(found.get(taskId) ?? []), job?.level ?? "later"]);
      }
    }
    return found;
  }

  /** Resolves when each of `count` tasks stands once, at a level of its own. */
  async function fired(count: number): Promise<Map<string, string[]>> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      const found = await levels();
      if (found.size === count && [...found.values()].every((at) => at.length === 1 && at[0] !== "later")) return found;
      if (performance.now() > deadline) throw new Error(`not fired: ${JSON.stringify([...found])}`);
    }
  }

  test("a task that waits is kept, read, repeated and cancelled like any other", async () => {
    const request = { run_at: inMs(60_000), client_request_id: "a" };
    const { taskId, status } = await accept(request);
    expect(status).toBe("PENDING");
    expect(await levels()).toEqual(new Map([[taskId, ["later"]]]));
    expect(await read(taskId)).toMatchObject({ status: "PENDING", run_at: request.run_at });
    expect(await accept(request)).toMatchObject({ taskId, replayed: true });
    await expect(accept({ ...request, run_at: inMs(70_000) })).rejects.toMatchObject({ code: "idempotency_mismatch" });
    await gateway.tasks.cancel(taskId, owner);
    expect(await ended(taskId)).toMatchObject({ status: "CANCELLED", attempt: 0 });
  });

  test("a job that has moved leaves no copy of its input on the broker's disk", async () => {
    await accept({ run_at: inMs(60_000), input: { text: "the-patient-is-called-miller" } });
    gateway.advance(60_000);
    await fired(1);
    const files = [...new Bun.Glob("**/*.blk").scanSync({ cwd: gateway.folder, absolute: true })];
    const blocks = (await Promise.all(files.map((file) => Bun.file(file).text()))).join("\n");
    expect(blocks.split("the-patient-is-called-miller").length - 1).toBe(1);
  });

  test("when it is due it goes to the level of its priority: once, however many gateways look", async () => {
    await gateway.join();
    const runAtMs = gateway.clock.now() + 1_200;
    const accepted = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        accept({ run_at: new Date(runAtMs).toISOString(), priority: n % 2 === 0 ? "high" : "low" }),
      ),
    );
    const found = await fired(100);
    expect(gateway.clock.now()).toBeGreaterThanOrEqual(runAtMs);
    expect(accepted.map(({ taskId }, n) => [n, found.get(taskId)])).toEqual(
      accepted.map((_, n) => [n, [n % 2 === 0 ? "high" : "low"]]),
    );
    // Every record there ever was: one that waited and one that fired.
    const stored = await Promise.all([0, 1].map((p) => lastSequence(gateway.bus, streams.jobs(p))));
    expect(stored.reduce((sum, last) => sum + last, 0)).toBe(200);
    await accept({ run_at: inMs(-5_000) });
    expect([...(await fired(101)).values()].flat()).toContain("normal");
  });

  test("what nobody starts in time ends as deadline_exceeded: once, and a day after it was due at the latest", async () => {
    const further = await gateway.join();
    const short = await accept({ deadline: inMs(2_000), metadata: { n: "1" } });
    const waiting = await accept({ delay_ms: 1_000, deadline: inMs(2_000) });
    const [patient, begun] = [await accept({}), await accept({ deadline: inMs(2_000) })];
    const started = { v: 1, attempt: 1, n: 1, crashes: 0, event: "STARTED", data: {} };
    gateway.bus.publish(subjects.events(begun.taskId), JSON.stringify(started));
    expect(await read(short.taskId)).toMatchObject({ status: "PENDING", deadline: expect.any(String) });
    gateway.advance(4_000);
    const overdue = { status: "FAILURE", attempt: 0, error: { code: "deadline_exceeded", stage: "queue" } };
    expect(await ended(short.taskId)).toMatchObject({ ...overdue, metadata: { n: "1" } });
    expect(await ended(waiting.taskId)).toMatchObject(overdue);
    expect((await further.read(short.taskId, owner)).status).toBe("FAILURE");
    gateway.advance(86_400_000);
    expect(await ended(patient.taskId)).toMatchObject(overdue);
    // The sweep that ended the others saw this one too.
    expect((await gateway.tasks.read(begun.taskId, owner)).status).toBe("STARTED");
  });

  test("what waits for a model server, and for an actor too, ends at its deadline with what it waits for", async () => {
    const { taskId } = await accept({ deadline: inMs(2_000) });
    const error = { code: "model_unavailable", message: "No server.", stage: "infer", retryable: true };
    const waiting = { sinceMs: gateway.clock.now(), tries: 3 };
    const event = { v: 1, attempt: 1, n: 6, crashes: 0, event: "RETRY", uncounted: true, waiting, data: { error } };
    gateway.bus.publish(subjects.events(taskId), JSON.stringify(event));
    expect(await read(taskId)).toMatchObject({ status: "RETRY", error });
    gateway.advance(4_000);
    const message = expect.stringMatching(/^No server\. The task waited for [\d.]+ s\.$/);
    expect(await ended(taskId)).toMatchObject({ status: "FAILURE", attempt: 1, error: { code: error.code, message } });
  });

  test("a repeated request is answered with its task though its deadline is over", async () => {
    const request = { deadline: inMs(60_000), client_request_id: "a" };
    const { taskId } = await accept(request);
    gateway.advance(61_500);
    expect(await accept(request)).toMatchObject({ taskId, replayed: true });
    await expect(accept({ ...request, client_request_id: "b" })).rejects.toMatchObject({ code: "invalid_request" });
    expect(await ended(taskId)).toMatchObject({ error: { code: "deadline_exceeded" } });
  });
});
