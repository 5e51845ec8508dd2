// Tasks that wait for a time, and tasks that nobody starts in time: a real broker, gateways without actors.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { parseJob, parseLater, streams } from "../src/bus/subjects.ts";
import { lastSequence } from "../src/bus/topology.ts";
import { readOldest } from "../src/bus/trim.ts";
import { owner, startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";

let gateway: TestTasks;
beforeEach(async () => {
  gateway = await startGatewayTasks({ partitions: 2, taskTtlMs: 3_600_000 });
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
