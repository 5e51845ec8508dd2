// `POST /v1/tasks` up to the point where a task is accepted. What fails here must never reach the tasks; whether an
// accepted task is kept is tested on the real stack.
import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import type { Keys } from "../keys/keys.ts";
import type { Scope } from "../keys/principal.ts";
import type { Accepted, TaskRequest } from "../tasks/tasks.ts";
import { finished, jsonPost, knownTaskId, startFixture } from "./server-fixture.ts";

const valid = { model: "echo", input: {} };

test.each([
  ["a day without a time", { ...valid, run_at: "2030-01-01" }, "/run_at"],
  ["a delay back in time", { ...valid, delay_ms: -1 }, "/delay_ms"],
  ["more than a year of delay", { ...valid, delay_ms: 366 * 86_400_000 }, "/delay_ms"],
  ["a deadline in words", { ...valid, deadline: "tomorrow" }, "/deadline"],
  ["an unknown field", { ...valid, foo: 1 }, "/foo"],
  ["no model", { input: {} }, "/model"],
  ["a number for a model", { ...valid, model: 1 }, "/model"],
  ["a path for a model", { ...valid, model: "../../etc/passwd" }, "/model"],
  ["a wildcard for a model", { ...valid, model: ">" }, "/model"],
  ["a line break in a model", { ...valid, model: "echo\n" }, "/model"],
  ["no input", { model: "echo" }, "/input"],
  ["a list for an input", { ...valid, input: [] }, "/input"],
  ["NUL in the input", { ...valid, input: { a: "\0" } }, "/input/a"],
  ["a shouted priority", { ...valid, priority: "HIGH" }, "/priority"],
  ["a number for a name", { ...valid, client_request_id: 7 }, "/client_request_id"],
  ["a space in a name", { ...valid, client_request_id: "a b" }, "/client_request_id"],
  ["a name too long", { ...valid, client_request_id: "x".repeat(256) }, "/client_request_id"],
  ["no attempt", { ...valid, max_attempts: 0 }, "/max_attempts"],
  ["half an attempt", { ...valid, max_attempts: 1.5 }, "/max_attempts"],
  ["no time", { ...valid, timeout_ms: 99 }, "/timeout_ms"],
  ["more than a day", { ...valid, timeout_ms: 86_400_001 }, "/timeout_ms"],
  ["nested metadata", { ...valid, metadata: { a: {} } }, "/metadata/a"],
  ["a long metadata value", { ...valid, metadata: { a: "x".repeat(513) } }, "/metadata/a"],
  ["a subject in a metadata key", { ...valid, metadata: { "a>": "x" } }, "/metadata"],
  ["a list of URLs", { ...valid, callback_url: ["https://example.com/"] }, "/callback_url"],
  ["an unknown event", { ...valid, callback_url: "https://a.example/", callback_events: ["x"] }, "/callback_events/0"],
  ["events without a URL", { ...valid, callback_events: ["completed"] }, "/callback_url"],
  ["what the model refuses", { ...valid, input: { bad: 1 } }, "/input/bad"],
  ["a list", [valid], ""],
  ["null", null, ""],
])("%s is refused by path", async (_name, body, path) => {
  await using server = await startFixture();
  const response = await server.send("/v1/tasks", jsonPost(body));
  const problem = (await response.json()) as { code: string; errors: { path: string }[] };
  expect([response.status, problem.code]).toEqual([422, "invalid_request"]);
  expect(problem.errors.map((error) => error.path)).toContain(path);
  expect(server.calls).toEqual([]);
});

test("an unknown model is 404", async () => {
  await using server = await startFixture();
  const response = await server.send("/v1/tasks", jsonPost({ ...valid, model: "no-such-model" }));
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ code: "unknown_model" });
});

test("an accepted task is 202 with its addresses", async () => {
  const seen: TaskRequest[] = [];
  const traces: (string | null)[] = [];
  const accepted: Accepted = { taskId: knownTaskId, status: "PENDING", replayed: false };
  await using server = await startFixture({
    tasks: {
      async accept(request, owner, trace) {
        expect(owner.keyId).toBe("alice");
        seen.push(request);
        traces.push(trace);
        return accepted;
      },
    },
  });
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const response = await server.send("/v1/tasks", jsonPost(valid, { traceparent }));
  expect([response.status, response.headers.get("location")]).toEqual([202, `/v1/tasks/${knownTaskId}`]);
  const self = `/v1/tasks/${knownTaskId}`;
  expect(await response.json()).toEqual({
    task_id: knownTaskId,
    status: "PENDING",
    urls: {
      self,
      events: expect.stringMatching(/\/events\?ticket=/),
      result: `${self}/result`,
      cancel: `${self}/cancel`,
    },
  });
  await server.send("/v1/tasks", jsonPost(valid, { traceparent: `00-${"0".repeat(32)}-00f067aa0ba902b7-01` }));
  expect(seen).toEqual([valid, valid]);
  expect(traces[0]).toBe(traceparent);
  expect(traces[1]).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  expect(traces[1]).not.toContain("0".repeat(32));
});

test("Idempotency-Key and client_request_id are one thing", async () => {
  const seen: unknown[] = [];
  await using server = await startFixture({
    tasks: {
      async accept(request) {
        seen.push(request.client_request_id);
        return { taskId: knownTaskId, status: "RETRY", replayed: true };
      },
    },
  });
  const send = (body: object, key: string): Promise<Response> =>
    server.send("/v1/tasks", jsonPost(body, { "idempotency-key": key }));
  const replay = await send(valid, "abc");
  expect([replay.status, replay.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
  expect(await replay.json()).toMatchObject({ task_id: knownTaskId, status: "RETRY" });
  expect((await send({ ...valid, client_request_id: "abc" }, '"abc"')).status).toBe(200);
  expect((await send({ ...valid, client_request_id: "abc" }, "abd")).status).toBe(422);
  expect((await send(valid, "a b")).status).toBe(422);
  expect((await send(valid, "x".repeat(256))).status).toBe(422);
  expect(seen).toEqual(["abc", "abc"]);
});

test("Prefer: wait answers the whole task when it has ended, else 202", async () => {
  let terminal = true;
  const waits: number[] = [];
  await using server = await startFixture({
    tasks: {
      async wait(taskId, _owner, waitMs) {
        waits.push(waitMs);
        return terminal ? finished(taskId) : { ...finished(taskId), status: "STARTED", terminal: false };
      },
    },
  });
  const done = await server.send("/v1/tasks", jsonPost(valid, { prefer: "respond-async, wait=10" }));
  expect([done.status, done.headers.get("preference-applied")]).toEqual([200, "wait=10"]);
  expect(await done.json()).toEqual({ task_id: knownTaskId, status: "SUCCESS" });
  terminal = false;
  const early = await server.send("/v1/tasks", jsonPost(valid, { prefer: "wait=999" }));
  expect([early.status, early.headers.get("preference-applied")]).toEqual([202, "wait=60"]);
  expect(await early.json()).toMatchObject({ status: "STARTED", urls: {} });
  const read = await server.send(`/v1/tasks/${knownTaskId}?wait=3`);
  expect([read.status, read.headers.get("preference-applied")]).toEqual([202, null]);
  expect((await server.send(`/v1/tasks/${knownTaskId}?wait=x`)).status).toBe(422);
  expect(waits).toEqual([10_000, 60_000, 3_000]);
  expect(server.http.heldCount()).toBe(0);
});

test("a task that was taken is told so, whether or not its end may be waited for", async () => {
  const key = { keyId: "alice", ratePerMinute: null, tokensPerDay: null, stored: true };
  const scopes = { writer: ["tasks:write"], both: ["tasks:write", "tasks:read"] } as const;
  const keys: Keys = {
    authenticate: (name) => ({ ...key, scopes: new Set<Scope>(scopes[name as keyof typeof scopes]) }),
    holder: () => null,
  };
  await using server = await startFixture({ keys });
  const submit = (name: string): Promise<Response> =>
    server.send("/v1/tasks", jsonPost({ model: "echo", input: {} }, { "x-api-key": name, prefer: "wait=5" }));
  const whole = await submit("both");
  expect([whole.status, whole.headers.get("preference-applied")]).toEqual([200, "wait=5"]);
  const written = await submit("writer");
  expect([written.status, written.headers.get("preference-applied")]).toEqual([202, null]);
});

test("full, and not to be had: 503 says when to come back", async () => {
  for (const [code, after] of [
    ["queue_full", 5],
    ["broker_unavailable", undefined],
    ["storage_unavailable", 0.2],
  ] as const) {
    await using server = await startFixture({
      tasks: {
        accept: () => Promise.reject(new AppError(code, "No.", after === undefined ? {} : { retryAfterS: after })),
      },
    });
    const response = await server.send("/v1/tasks", jsonPost(valid));
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, String(Math.ceil(after ?? 1))]);
    expect(await response.json()).toMatchObject({ code, retryable: true });
  }
});
