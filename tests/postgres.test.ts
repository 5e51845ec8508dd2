// The whole service on a PostgreSQL that two gateways share: they see the same tasks, one of them writes the read model
// and the other goes on with it after a kill, and a database that dies and comes back loses nothing.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { SQL } from "bun";
import { type PostgresServer, postgresMissing, startPostgres } from "./postgres.ts";
import { type SecondGateway, startSecondGateway } from "./second-gateway.ts";
import { type Stack, startStack, until } from "./stack.ts";

setDefaultTimeout(60_000);

const MAIN = join(import.meta.dir, "../src/main.ts");

const missing = postgresMissing() ?? (process.env.MILLRACE_TEST_DATABASE_URL ? "needs a server of its own" : null);
const suite = missing ? describe.skip : describe;

suite(`two gateways on one PostgreSQL${missing ? ` (${missing})` : ""}`, () => {
  let server: PostgresServer;
  let stack: Stack;
  let second: SecondGateway;
  let sql: SQL;
  const taskIds: string[] = [];

  beforeAll(async () => {
    server = await startPostgres();
    const settings = { DATABASE_URL: server.url.replace("postgres:", "postgresql+psycopg:"), MODELS: "echo" };
    stack = await startStack({ settings });
    second = await startSecondGateway(stack, settings);
    sql = new SQL(server.url, { max: 1 });
  });
  afterAll(async () => {
    await sql.close();
    await second.stop();
    await stack.stop();
    await server.stop();
  });

  const submitTo = async (call: Stack["call"]): Promise<string> => {
    const response = await call("POST", "/v1/tasks", { model: "echo", input: { text: "kept" } });
    expect(response.status).toBe(202);
    const { task_id } = (await response.json()) as { task_id: string };
    taskIds.push(task_id);
    return task_id;
  };
  const burst = (call: Stack["call"], count: number): Promise<string[]> =>
    Promise.all(Array.from({ length: count }, () => submitTo(call)));
  /** Resolves when every task that was accepted has ended in the read model. */
  const allRows = (): Promise<true> =>
    until("a row of every end", 20_000, async () => {
      const [row] = await sql`SELECT count(*) AS ended FROM tasks WHERE status = 'SUCCESS'`;
      return Number(row.ended) === taskIds.length ? true : null;
    });
  const readiness = async (url: string): Promise<Record<string, boolean>> => {
    const { parts } = (await (await fetch(`${url}/health/ready`)).json()) as {
      parts: { part: string; ready: boolean }[];
    };
    return Object.fromEntries(parts.map(({ part, ready }) => [part, ready]));
  };

  test("both see a task of either, and one writes its row", async () => {
    const ids = [await submitTo(stack.call), await submitTo(second.call)];
    await allRows();
    for (const call of [stack.call, second.call]) {
      const listed = (await (await call("GET", "/v1/tasks?status=SUCCESS")).json()) as { data: { task_id: string }[] };
      expect(listed.data.map((task) => task.task_id).sort()).toEqual([...ids].sort());
    }
    expect(stack.log().filter(({ message }) => message === "this gateway writes the read model")).toHaveLength(1);
  });

  test("a key made, limited and revoked is so on both", async () => {
    const keys = async (...args: string[]): Promise<{ id: string; key: string }> => {
      const env = { PATH: process.env.PATH ?? "", ENV: "dev", DATA_DIR: stack.dataDir, DATABASE_URL: server.url };
      const child = Bun.spawn([process.execPath, MAIN, "keys", ...args], { env, stdio: ["ignore", "pipe", "inherit"] });
      const text = await child.stdout.text();
      expect(await child.exited).toBe(0);
      return JSON.parse(text) as { id: string; key: string };
    };
    const { id, key } = await keys("create", "--name", "shared", "--rate-limit", "30");
    const urls = [stack.url, second.url];
    const statusOf = async (url: string): Promise<number> =>
      (await fetch(`${url}/v1/models`, { headers: { "x-api-key": key } })).status;
    const both = (status: number): Promise<unknown> =>
      Promise.all(
        urls.map((url) => until(`${status}`, 5_000, async () => ((await statusOf(url)) === status ? true : null))),
      );
    await both(200); // and so at least two of its thirty are used
    const statuses = await Promise.all(Array.from({ length: 60 }, (_, i) => statusOf(urls[i % 2] ?? stack.url)));
    expect(statuses.filter((status) => status === 200).length).toBeWithin(1, 29);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
    await keys("revoke", id);
    await both(401);
  });

  test("the one that writes is killed with -9 under load: the other goes on, and no row is missing", async () => {
    const before = burst(second.call, 100);
    process.kill(await stack.pidOf("gateway"), "SIGKILL");
    await Promise.all([before, second.logged({ message: "this gateway writes the read model" })]);
    await burst(second.call, 20);
    await allRows();
    await stack.ready();
  });

  test("PostgreSQL dies under load and comes back: tasks are taken and read meanwhile, and no row is missing", async () => {
    const before = burst(stack.call, 50);
    await server.kill();
    const [known = ""] = await before;
    await until("not ready", 10_000, async () => ((await readiness(stack.url)).database === false ? true : null));
    const during = await submitTo(stack.call);
    expect((await stack.ended(during)).status).toBe("SUCCESS");
    expect((await stack.read(known)).status).toBe("SUCCESS");
    // One that only the other gateway has in memory.
    const body = { model: "echo", input: {}, delay_ms: 600_000 };
    const elsewhere = (await (await second.call("POST", "/v1/tasks", body)).json()) as { task_id: string };
    expect(await stack.read(elsewhere.task_id)).toMatchObject({ status: "PENDING" });
    expect((await stack.call("POST", `/v1/tasks/${elsewhere.task_id}/cancel`)).status).toBe(202);
    const list = await stack.call("GET", "/v1/tasks");
    expect([list.status, ((await list.json()) as { code: string }).code]).toEqual([503, "database_unavailable"]);
    // Neither in the logs nor known to be nowhere.
    const unknown = await stack.call("GET", `/v1/tasks/${"0".repeat(26)}`);
    expect([unknown.status, ((await unknown.json()) as { code: string }).code]).toEqual([503, "database_unavailable"]);

    await server.restart();
    await stack.ready();
    await sql.close();
    sql = new SQL(server.url, { max: 1 });
    await burst(stack.call, 20);
    await allRows();
    expect((await stack.call("GET", "/v1/tasks")).status).toBe(200);
  });

  test("a server that falls silent holds up neither submissions nor reads of one task", async () => {
    server.freeze();
    try {
      const id = await submitTo(stack.call);
      expect((await stack.ended(id, 5_000)).status).toBe("SUCCESS");
      await until("not ready", 10_000, async () => ((await readiness(stack.url)).database === false ? true : null));
    } finally {
      server.thaw();
    }
    await stack.ready();
    await allRows();
  });

  test("without its database a gateway does not start, and says why in one line without the password", async () => {
    const env = {
      PATH: process.env.PATH ?? "",
      DATA_DIR: stack.dataDir,
      NATS_URL: stack.natsUrl,
      DATABASE_URL: "postgres://millrace:opensesame@127.0.0.1:1/millrace",
      LOG_LEVEL: "silent",
    };
    const main = join(import.meta.dir, "../src/main.ts");
    const child = Bun.spawn([process.execPath, main, "gateway"], { env, stdio: ["ignore", "ignore", "pipe"] });
    const said = await new Response(child.stderr).text();
    expect(await child.exited).toBe(1);
    expect(said).toMatch(/^millrace: cannot use the database of DATABASE_URL at 127\.0\.0\.1:1: .*\n$/);
    expect(said).not.toContain("opensesame");
  });
});
