// Schedules through the real server and the real database; when they fire is tested beside the broker.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { type Db, openKept } from "../db/db.ts";
import { silentLog } from "../log.ts";
import { openSchedules } from "../tasks/schedules.ts";
import { type Fixture, jsonPost, otherKey, startFixture } from "./server-fixture.ts";

forEachDatabase((databases) => {
  let db: Db;
  let schedules: ReturnType<typeof openSchedules>;
  let server: Fixture;
  const now = Date.parse("2026-11-21T10:00:00Z");

  beforeAll(async () => {
    db = await openKept(await databases.empty());
    const clock = { now: () => now, monotonicMs: () => now };
    const accept = () => Promise.reject(new Error("nothing is due"));
    const open = { accept, isKey: () => true, callbackProblem: () => "not here" };
    schedules = openSchedules({ sql: db.sql, ...open, clock, log: silentLog });
  });
  beforeEach(async () => {
    server = await startFixture({ schedules });
  });
  afterEach(async () => {
    await server[Symbol.asyncDispose]();
    await db.sql`DELETE FROM schedules`;
  });
  afterAll(async () => {
    await schedules.stop();
    await db.close();
  });

  const task = { model: "echo", input: { text: "x" } };
  const valid = { name: "nightly", cron: "30 2 * * *", timezone: "europe/berlin", task };

  const create = (body: unknown): Promise<Response> => server.send("/v1/schedules", jsonPost(body));
  const problemOf = async (response: Response) => {
    const { code, errors = [] } = (await response.json()) as { code: string; errors?: { path: string }[] };
    return [response.status, code, errors[0]?.path];
  };

  test("made, read, listed by pages, deleted", async () => {
    const made = await create(valid);
    expect(made.status).toBe(201);
    const schedule = (await made.json()) as { schedule_id: string; [field: string]: unknown };
    expect(made.headers.get("location")).toBe(`/v1/schedules/${schedule.schedule_id}`);
    expect(schedule).toEqual({
      schedule_id: expect.stringMatching(/^[0-9a-z]{26}$/),
      object: "schedule",
      ...valid,
      timezone: "Europe/Berlin",
      created_at: "2026-11-21T10:00:00.000Z",
      next_run_at: "2026-11-22T01:30:00.000Z",
      last_run_at: null,
      last_task_id: null,
      last_error: null,
    });
    const path = `/v1/schedules/${schedule.schedule_id}`;
    expect(await (await server.send(path)).json()).toEqual(schedule);

    const bare = (await (await create({ cron: "@daily", task })).json()) as { schedule_id: string };
    expect(bare).toMatchObject({ name: null, timezone: "UTC", next_run_at: "2026-11-22T00:00:00.000Z" });
    const all = [schedule.schedule_id, bare.schedule_id].sort().reverse();
    const first = await (await server.send("/v1/schedules?limit=1")).json();
    expect(first).toMatchObject({ data: [{ schedule_id: all[0] }], has_more: true, next_cursor: all[0] });
    const second = await (await server.send(`/v1/schedules?limit=1&cursor=${all[0]}`)).json();
    expect(second).toMatchObject({ data: [{ schedule_id: all[1] }], has_more: false, next_cursor: null });

    expect((await server.send(path, { method: "DELETE" })).status).toBe(204);
    expect(await problemOf(await server.send(path, { method: "DELETE" }))).toEqual([
      404,
      "schedule_not_found",
      undefined,
    ]);
  });

  test("another key's schedule does not exist, whatever is asked", async () => {
    const { schedule_id } = (await (await create(valid)).json()) as { schedule_id: string };
    for (const method of ["GET", "DELETE"]) {
      const response = await server.send(`/v1/schedules/${schedule_id}`, {
        method,
        headers: { "x-api-key": otherKey },
      });
      expect(await problemOf(response)).toEqual([404, "schedule_not_found", undefined]);
    }
    expect((await server.send(`/v1/schedules/${schedule_id}`)).status).toBe(200);
  });

  test.each([
    ["no task", { cron: "@daily" }, "/task"],
    ["an unknown field", { ...valid, every: "day" }, "/every"],
    ["six fields", { ...valid, cron: "0 * * * * *" }, "/cron"],
    ["a day that never comes", { ...valid, cron: "0 0 31 2 *" }, "/cron"],
    ["no zone", { ...valid, timezone: "Mars/Olympus" }, "/timezone"],
    ["a path for a zone", { ...valid, timezone: "../etc/passwd" }, "/timezone"],
    ["a task without a model", { ...valid, task: { input: {} } }, "/task/model"],
    ["an input that the model refuses", { ...valid, task: { model: "echo", input: { bad: 1 } } }, "/task/input/bad"],
    ["a time of its own", { ...valid, task: { ...task, run_at: "2030-01-01T00:00:00Z" } }, "/task/run_at"],
    ["a name of its own", { ...valid, task: { ...task, client_request_id: "a" } }, "/task/client_request_id"],
    ["a callback to nowhere", { ...valid, task: { ...task, callback_url: "http://10.0.0.1/" } }, "/task/callback_url"],
    ["a large task", { ...valid, task: { model: "echo", input: { text: "x".repeat(65_536) } } }, "/task"],
  ])("%s is refused by its path", async (_, body, path) => {
    expect(await problemOf(await create(body))).toEqual([422, "invalid_request", path]);
    expect(((await (await server.send("/v1/schedules")).json()) as { data: [] }).data).toEqual([]);
  });

  test.each([["limit=0"], ["limit=101"], ["limit=x"], ["cursor=x"], ["page=2"]])(
    "a list with %s is refused",
    async (query) => {
      const [status, code] = await problemOf(await server.send(`/v1/schedules?${query}`));
      expect([status, code]).toEqual([422, "invalid_request"]);
    },
  );

  test("an unknown model is 404", async () => {
    const response = await create({ ...valid, task: { model: "nobody", input: {} } });
    expect(await problemOf(response)).toEqual([404, "unknown_model", undefined]);
  });
});
