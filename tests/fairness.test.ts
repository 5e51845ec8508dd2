// One key's long queue and another's short one: on gateways whose jobs stand in the log for the test to see, and on the
// whole service, of which processes are killed meanwhile. Orders are compared, never times.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Lane, parseJob, streams } from "../src/bus/subjects.ts";
import { readOldest } from "../src/bus/trim.ts";
import { LANE_A_MAX } from "../src/tasks/lanes.ts";
import type { Tasks } from "../src/tasks/tasks.ts";
import { startGatewayTasks, type TestTasks } from "./gateway-tasks.ts";
import { type Stack, startStack, until } from "./stack.ts";

setDefaultTimeout(60_000);

describe("lanes of several gateways", () => {
  let first: TestTasks;
  let second: Tasks;
  beforeEach(async () => {
    first = await startGatewayTasks({ partitions: 2, taskTtlMs: 3_600_000 });
    second = await first.join();
  });
  afterEach(() => first.stop());

  const accept = async (tasks: Tasks, keyId: string, count: number, fields: object = {}): Promise<string[]> => {
    const request = { model: "echo", input: {}, ...fields };
    const accepted = Array.from({ length: count }, () => tasks.accept(request, { keyId }, null));
    return (await Promise.all(accepted)).map(({ taskId }) => taskId);
  };
  /** The lane of each task in a queue. */
  const lanesNow = async (): Promise<Map<string, Lane>> => {
    const found = new Map<string, Lane>();
    for (let p = 0; p < first.partitions; p++) {
      for (const { subject } of await readOldest(first.bus, streams.jobs(p), 1, 5_000)) {
        const job = parseJob(subject);
        if (job) found.set(job.taskId, job.lane);
      }
    }
    return found;
  };
  const inLaneA = async (ids: readonly string[]): Promise<number> => {
    const lanes = await lanesNow();
    return ids.filter((id) => lanes.get(id) === "a").length;
  };
  const inReadModel = (keyId: string, count: number): Promise<true> =>
    until("the read model", 20_000, async () => {
      const [row] = await first.sql`SELECT count(*) AS open FROM tasks WHERE key_id = ${keyId} AND due_ms IS NULL`;
      return Number(row.open) >= count ? true : null;
    });

  test("each lets a key's first tasks into lane a; what the others took it knows when the read model has it", async () => {
    const both = await Promise.all([accept(first.tasks, "busy", 100), accept(second, "busy", 100)]);
    expect(await inLaneA(both.flat())).toBe(2 * LANE_A_MAX);
    const third = await first.join();
    await inReadModel("busy", 200);
    const more: string[] = [];
    for (let i = 0; i < 50; i++) more.push(...(await accept(third, "busy", 1)));
    expect(await inLaneA(more)).toBeLessThan(LANE_A_MAX);
    const calm = await Promise.all([accept(first.tasks, "calm", 5), accept(second, "calm", 5)]);
    expect(await inLaneA(calm.flat())).toBe(10);
  });

  test("a task that waits for its time gets its lane when it is due", async () => {
    const run_at = new Date(first.clock.now() + 3_600_000).toISOString();
    const waiting = await accept(first.tasks, "later", 2 * LANE_A_MAX, { run_at });
    const now = await accept(first.tasks, "later", LANE_A_MAX);
    expect(await inLaneA(now)).toBe(LANE_A_MAX);
    await until("rows that wait", 20_000, async () => {
      const [row] = await first.sql`SELECT count(*) AS waiting FROM tasks WHERE due_ms IS NOT NULL`;
      return Number(row.waiting) === waiting.length ? true : null;
    });
    for (const id of now) await first.end(id);
    for (const id of now) await first.projected(id);
    first.advance(3_600_000);
    const lanes = await until("all fired", 20_000, async () => {
      const found = await lanesNow();
      return waiting.every((id) => found.has(id)) ? found : null;
    });
    const inA = waiting.filter((id) => lanes.get(id) === "a").length;
    expect(inA).toBeGreaterThanOrEqual(LANE_A_MAX);
    expect(inA).toBeLessThan(2 * LANE_A_MAX);
  });
});

describe("ten tasks of a key behind two thousand of another", () => {
  let stack: Stack;
  let folder: string;
  let file: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "millrace fairness "));
    file = join(folder, "order.txt");
    const settings = { PLUGINS_DIR: join(import.meta.dir, "fixtures/plugins"), MODELS: "recorder", PARTITIONS: "2" };
    stack = await startStack({ settings, apiKeys: "busy:key-of-busy,calm:key-of-calm" });
  });
  afterAll(async () => {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const submit = async (key: string, names: readonly string[]): Promise<void> => {
    const tasks = names.map((name) => ({ model: "recorder", input: { file, name, sleep_ms: 5 } }));
    const answer = await stack.call("POST", "/v1/tasks/batch", { tasks }, { "x-api-key": key });
    expect(await answer.json()).toMatchObject({ accepted: names.length });
  };
  const names = (of: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${of}-${i}`);
  /** Who ran, in order. */
  const ran = async (): Promise<string[]> => (await readFile(file, "utf8").catch(() => "")).split("\n").slice(0, -1);
  /** How many tasks of the busy key run between the acceptance of the calm key's ten and the start of their last. */
  const between = async (round: string): Promise<number> => {
    const from = (await ran()).length;
    await submit("key-of-calm", names(round, 10));
    return until(`the ten of ${round}`, 40_000, async () => {
      const since = (await ran()).slice(from);
      const last = since.findLastIndex((name) => name.startsWith(round));
      const all = since.filter((name) => name.startsWith(round)).length;
      return all === 10 ? last + 1 - all : null;
    });
  };
  const killed = async (name: string): Promise<void> => {
    const pid = await stack.pidOf(name);
    process.kill(pid, "SIGKILL");
    await until(`another ${name}`, 30_000, async () =>
      (await stack.pidOf(name).catch(() => pid)) !== pid ? true : null,
    );
    await stack.ready();
  };
  /** Lane a's rest of the busy key, its share while the ten run, and what was under way when they came. */
  const BETWEEN_MAX = LANE_A_MAX + 10;

  test("wait for a few of them; also after a kill -9 of the gateway, and of the broker", async () => {
    await submit("key-of-busy", names("busy", 1_000));
    await submit("key-of-busy", names("more", 1_000));
    expect(await between("calm")).toBeLessThanOrEqual(BETWEEN_MAX);
    await killed("gateway");
    await submit("key-of-busy", names("again", 500));
    expect(await between("restarted")).toBeLessThanOrEqual(BETWEEN_MAX);
    await killed("nats-server");
    expect(await between("broker")).toBeLessThanOrEqual(BETWEEN_MAX);
    const all = (await ran()).length;
    expect(all).toBeLessThan(2_000); // or nothing waited, and nothing is proven
  });
});
