// What holds for every route: credentials, methods, headers, problems, starting and stopping. No broker has a part in
// any of it, so the tasks behind the server are written by hand (server-fixture.ts).
import { expect, test } from "bun:test";
import { connect } from "node:net";
import { AppError } from "../errors.ts";
import { createKeys } from "../keys/keys.ts";
import { type Log, silentLog } from "../log.ts";
import { createMetrics } from "../metrics/metrics.ts";
import type { TaskView } from "../tasks/tasks.ts";
import { createHttp } from "./http.ts";
import { finished, jsonPost, knownTaskId, models, otherKey, startFixture, testKey } from "./server-fixture.ts";

const bearer = (key: string): string => `Bearer ${key}`;

/** Sends bytes as they are and resolves to all that comes back until the server closes or `until` has been seen. */
const raw = (url: string, text: string, until: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let got = "";
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write(text));
    socket.on("data", (bytes) => {
      got += bytes.toString();
      if (got.includes(until)) socket.destroy();
    });
    socket.on("close", () => resolve(got));
    socket.on("error", reject);
  });

test("both headers carry a key, nothing else does", async () => {
  await using server = await startFixture();
  const statusOf = async (headers: Record<string, string>, path = `/v1/tasks/${knownTaskId}`): Promise<number> =>
    (await fetch(`${server.url}${path}`, { headers })).status;
  expect(await statusOf({ "x-api-key": testKey })).toBe(200);
  expect(await statusOf({ authorization: bearer(testKey) })).toBe(200);
  expect(await statusOf({ authorization: `bearer ${testKey}` })).toBe(200);
  expect(await statusOf({ "x-api-key": testKey, authorization: bearer(testKey) })).toBe(200);
  expect(await statusOf({ "x-api-key": testKey, authorization: bearer(otherKey) })).toBe(400);
  expect(await statusOf({ "x-api-key": testKey, authorization: "Basic eDp5" })).toBe(400);
  expect(await statusOf({})).toBe(401);
  expect(await statusOf({ "x-api-key": "" })).toBe(401);
  expect(await statusOf({ "x-api-key": `${testKey}, ${testKey}` })).toBe(401);
  expect(await statusOf({ authorization: "Basic eDp5" })).toBe(401);
  expect(await statusOf({}, `/v1/tasks/${knownTaskId}?api_key=${testKey}&x-api-key=${testKey}`)).toBe(401);
});

test("without a key nothing under /v1 answers, known or not, and no body is read", async () => {
  await using server = await startFixture();
  for (const route of server.http.routes.filter(({ access }) => access === "key")) {
    const response = await fetch(`${server.url}${route.path.replace("{id}", knownTaskId)}`, { method: route.method });
    expect([route.path, response.status]).toEqual([route.path, 401]);
    expect(response.headers.get("www-authenticate")).toStartWith("Bearer");
    const known = route.errorFormat === "openai" ? { error: { code: "invalid_api_key" } } : { code: "unauthorized" };
    expect(await response.json()).toMatchObject(known);
  }
  expect((await fetch(`${server.url}/v1/nothing`)).status).toBe(401);
  expect(server.calls).toEqual([]);
  const head =
    "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n";
  expect(await raw(server.url, head, "}")).toStartWith("HTTP/1.1 401");
});

test("health, pages and the document need no key", async () => {
  await using server = await startFixture();
  for (const route of server.http.routes.filter(({ access }) => access === "public")) {
    const response = await fetch(`${server.url}${route.path}`);
    expect([route.path, response.status]).toEqual([route.path, 200]);
    await response.body?.cancel();
  }
});

/** What a browser is told by every answer, whatever it is. */
const securityHeaders = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "content-security-policy": expect.stringMatching(/default-src 'none'.*frame-ancestors 'none'/),
  "cache-control": expect.stringMatching(/no-store|no-cache/),
};

test("every answer has a request id and the security headers; a harmless id of the client's is kept", async () => {
  await using server = await startFixture();
  const cancel = `/v1/tasks/${knownTaskId}/cancel`;
  for (const [path, method] of [
    ["/v1/tasks", "OPTIONS"],
    [cancel, "POST"],
    [cancel, "PUT"],
    ["/openapi.json", "HEAD"],
  ]) {
    const response = await server.send(path ?? "", { method: method ?? "" });
    await response.body?.cancel();
    expect(Object.fromEntries(response.headers)).toMatchObject(securityHeaders);
  }
  for (const path of [`/v1/tasks/${knownTaskId}`, "/v1/models/none", "/nothing", "/health/live", "/docs"]) {
    const response = await server.send(path, { headers: { "x-request-id": "mine-1" } });
    await response.body?.cancel();
    expect(response.headers.get("x-request-id")).toBe("mine-1");
    expect(Object.fromEntries(response.headers)).toMatchObject(securityHeaders);
    for (const bad of ["a b", "x".repeat(129), "<b>"]) {
      const other = await server.send(path, { headers: { "x-request-id": bad } });
      await other.body?.cancel();
      expect(other.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
    }
  }
});

test("what OpenAI's SDKs ask for in vain is answered in their form, also where the base URL lacks its /v1", async () => {
  await using server = await startFixture();
  const said = async (path: string): Promise<unknown> => {
    const response = await server.send(path, jsonPost({}));
    return [
      response.status,
      response.headers.get("x-should-retry"),
      ((await response.json()) as { error?: object }).error,
    ];
  };
  const code = "route_not_found";
  expect(await said("/v1/responses")).toEqual([
    404,
    "false",
    expect.objectContaining({ code, message: expect.stringContaining("not served here") }),
  ]);
  expect(await said("/chat/completions")).toEqual([
    404,
    "false",
    expect.objectContaining({ code, message: expect.stringContaining("/v1") }),
  ]);
  expect(await said("/v1/chat/sessions")).toEqual([404, null, undefined]);
});

test("unknown paths are 404, other methods 405 with Allow, OPTIONS 204 without CORS", async () => {
  await using server = await startFixture();
  const missing = await server.send("/v1/nothing");
  expect(missing.status).toBe(404);
  expect(missing.headers.get("content-type")).toBe("application/problem+json");
  expect(await missing.json()).toMatchObject({ type: "urn:millrace:problem:route_not_found", status: 404 });

  const patch = await server.send(`/v1/tasks/${knownTaskId}`, { method: "PATCH", body: "{}" });
  expect([patch.status, patch.headers.get("allow")]).toEqual([405, "GET, HEAD, DELETE, OPTIONS"]);
  const post = await server.send(`/v1/tasks/${knownTaskId}/events`, jsonPost({}));
  expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS"]);

  const options = await fetch(`${server.url}/v1/tasks`, {
    method: "OPTIONS",
    headers: { origin: "https://evil.example" },
  });
  expect([options.status, options.headers.get("allow")]).toEqual([204, "POST, GET, HEAD, OPTIONS"]);
  expect([...options.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
});

test("HEAD answers like GET, without a body", async () => {
  await using server = await startFixture();
  for (const path of [`/v1/tasks/${knownTaskId}`, "/v1/models", "/openapi.json"]) {
    const get = await server.send(path);
    const head = await server.send(path, { method: "HEAD" });
    expect([path, head.status]).toEqual([path, get.status]);
    expect(head.headers.get("content-length")).toBe(String(new TextEncoder().encode(await get.text()).length));
    expect(await head.text()).toBe("");
  }
});

test("a one-letter host name is a host name", async () => {
  await using server = await startFixture();
  const text = `GET /v1/tasks/${knownTaskId} HTTP/1.1\r\nHost: t\r\nx-api-key: ${testKey}\r\n\r\n`;
  expect(await raw(server.url, text, "}")).toStartWith("HTTP/1.1 200");
});

test("what cannot be a task id is unknown, and nobody is asked", async () => {
  await using server = await startFixture();
  const ids = [
    "x",
    "%2A",
    "%3E",
    "a%00b",
    "..%2f..%2fetc",
    "%F0%28",
    "A".repeat(4_000),
    knownTaskId.toUpperCase(),
    `8${"0".repeat(25)}`,
  ];
  for (const id of ids) {
    for (const [method, tail] of [
      ["GET", ""],
      ["GET", "/events"],
      ["GET", "/result"],
      ["POST", "/cancel"],
      ["DELETE", ""],
    ] as const) {
      const response = await server.send(`/v1/tasks/${id}${tail}`, { method });
      expect([id, tail, response.status]).toEqual([id, tail, 404]);
      expect(await response.json()).toMatchObject({ code: "task_not_found" });
    }
  }
  expect(server.calls).toEqual([]);
});

test("an unknown failure is 500, logged once, and tells the client nothing", async () => {
  const lines: object[] = [];
  const log: Log = { ...silentLog, error: (fields) => lines.push(fields) };
  const secret = "password=hunter2 at /srv/app/db.ts";
  await using server = await startFixture({ log, tasks: { read: () => Promise.reject(new Error(secret)) } });
  const response = await server.send(`/v1/tasks/${knownTaskId}`, { headers: { "x-request-id": "find-me" } });
  const text = await response.text();
  expect(response.status).toBe(500);
  expect(JSON.parse(text)).toMatchObject({ code: "internal", request_id: "find-me", retryable: true });
  expect(text).not.toContain("hunter2");
  expect(text).not.toContain(".ts");
  expect(lines).toEqual([expect.objectContaining({ request_id: "find-me", error: secret })]);
});

test("a failure that is known, but made for the log, is told no more", async () => {
  const failing = (): Promise<never> => Promise.reject(new AppError("internal", "the key of /srv/data is not valid"));
  await using server = await startFixture({ tasks: { read: failing, cancel: () => Promise.reject("a string") } });
  for (const init of [{}, { method: "DELETE" }]) {
    const response = await server.send(`/v1/tasks/${knownTaskId}`, init);
    const problem = (await response.json()) as { code: string; detail: string };
    expect([response.status, problem.code]).toEqual([500, "internal"]);
    expect(problem.detail).toContain("on our side");
  }
});

test("a part that is not ready is named, with 503", async () => {
  let ready = false;
  await using server = await startFixture({
    readiness: () => [
      { part: "broker", ready, ...(ready ? {} : { detail: "connecting" }) },
      { part: "blobs", ready: true },
    ],
  });
  const response = await fetch(`${server.url}/health/ready`);
  expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await response.json()).toMatchObject({
    code: "not_ready",
    detail: "Not ready: broker: connecting.",
    parts: [{}, {}],
  });
  ready = true;
  expect((await fetch(`${server.url}/health/ready`)).status).toBe(200);
});

test("a taken port is said, with what to do", async () => {
  await using server = await startFixture();
  const port = Number(new URL(server.url).port);
  const second = createHttp({
    config: { env: "dev", host: "127.0.0.1", port, corsOrigins: [], trustedProxies: [], fetchAllowHosts: [] },
    tasks: {} as never,
    llm: {} as never,
    find: {} as never,
    retry: {} as never,
    erase: {} as never,
    webhooks: {} as never,
    tickets: {} as never,
    models,
    llmModels: { list: () => [], find: () => null },
    queues: { list: async () => [] },
    actors: () => [],
    keys: createKeys([]),
    limits: { take: () => null },
    blobs: {} as never,
    files: {} as never,
    schedules: {} as never,
    usage: {} as never,
    readiness: () => [],
    metrics: createMetrics(silentLog),
    log: silentLog,
  });
  const failure = await second.listen().catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "port_taken" });
  expect(String(failure)).toContain(`PORT=${Math.min(port + 80, 65_535)}`);
});

test("stopping answers waits with what is known, lets work finish, and refuses what comes later", async () => {
  const working = Promise.withResolvers<void>();
  const entered = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  const pending: TaskView = { ...finished(knownTaskId), status: "STARTED", terminal: false };
  await using server = await startFixture({
    tasks: {
      async wait(_id, _owner, _ms, signal) {
        entered[0].resolve();
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
        return pending;
      },
      async read(taskId) {
        entered[1].resolve();
        await working.promise;
        return finished(taskId);
      },
    },
  });
  const waiting = server.send(`/v1/tasks/${knownTaskId}?wait=60`);
  const reading = server.send(`/v1/tasks/${knownTaskId}`);
  await Promise.all(entered.map(({ promise }) => promise));
  expect(server.http.heldCount()).toBe(1);

  const stopped = server.http.stop(5_000);
  expect((await waiting).status).toBe(202);
  expect(server.http.heldCount()).toBe(0);
  working.resolve();
  expect((await reading).status).toBe(200);
  await stopped;
  await expect(fetch(`${server.url}/health/live`)).rejects.toThrow();
});

test("stopping cuts off what does not finish within its time", async () => {
  const entered = Promise.withResolvers<void>();
  await using server = await startFixture({
    tasks: {
      read() {
        entered.resolve();
        return Promise.withResolvers<TaskView>().promise;
      },
    },
  });
  const reading = server.send(`/v1/tasks/${knownTaskId}`);
  await entered.promise;
  await Promise.all([server.http.stop(20), expect(reading).rejects.toThrow()]);
});
