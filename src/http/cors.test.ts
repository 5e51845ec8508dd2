// Pages of other origins: what the configuration names may call and read, everything else is as if there were no CORS.
import { expect, test } from "bun:test";
import { knownTaskId, startFixture } from "./server-fixture.ts";

const page = "https://app.example.com";
const path = `/v1/tasks/${knownTaskId}`;
const corsOf = (response: Response): string[] =>
  [...response.headers.keys()].filter((name) => name.startsWith("access-control"));
const preflight = (origin: string, method = "POST"): RequestInit => ({
  method: "OPTIONS",
  headers: { origin, "access-control-request-method": method, "access-control-request-headers": "x-api-key" },
});

test("an origin that is named may ask, call, and read the answer, errors too", async () => {
  await using server = await startFixture({ config: { corsOrigins: [page, "http://localhost:5173"] } });
  const asked = await fetch(`${server.url}${path}/cancel`, preflight(page));
  expect(asked.status).toBe(204);
  expect(Object.fromEntries(asked.headers)).toMatchObject({
    "access-control-allow-origin": page,
    "access-control-allow-methods": "POST, OPTIONS",
    "access-control-max-age": "600",
    vary: "origin",
  });
  const headers = asked.headers.get("access-control-allow-headers")?.split(", ");
  const sdk = ["x-stainless-lang", "x-stainless-retry-count", "x-stainless-timeout"];
  for (const name of ["x-api-key", "authorization", "content-type", "last-event-id", ...sdk])
    expect(headers).toContain(name);
  expect(asked.headers.get("access-control-allow-credentials")).toBeNull();

  for (const [target, status] of [
    [path, 200],
    ["/v1/models/none", 404],
  ] as const) {
    const answer = await server.send(target, { headers: { origin: page } });
    expect([target, answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([target, status, page]);
    expect(answer.headers.get("access-control-expose-headers")).toContain("x-request-id");
    await answer.body?.cancel();
  }
  const keyless = await fetch(`${server.url}${path}`, { headers: { origin: page } });
  expect([keyless.status, keyless.headers.get("access-control-allow-origin")]).toEqual([401, page]);
});

test("any other origin gets no word of CORS, and caches are told that answers differ", async () => {
  await using server = await startFixture({ config: { corsOrigins: [page] } });
  for (const origin of [
    "https://evil.example",
    `${page}.evil.example`,
    "null",
    "http://app.example.com",
    `${page}:444`,
  ]) {
    for (const init of [preflight(origin), { headers: { origin } }]) {
      const response = await server.send(path, init);
      await response.body?.cancel();
      expect([origin, corsOf(response), response.headers.get("vary")]).toEqual([origin, [], "origin"]);
    }
  }
  const none = await server.send(path);
  expect([corsOf(none), none.headers.get("vary")]).toEqual([[], "origin"]);
});

test("only paths that exist are allowed, and only with their methods", async () => {
  await using server = await startFixture({ config: { corsOrigins: [page] } });
  const nowhere = await fetch(`${server.url}/v1/nothing`, preflight(page));
  expect([nowhere.status, nowhere.headers.get("access-control-allow-methods")]).toEqual([401, null]);
  const task = await fetch(`${server.url}${path}`, preflight(page, "PUT"));
  expect(task.headers.get("access-control-allow-methods")).toBe("GET, HEAD, DELETE, OPTIONS");
});

test("without a configured origin nothing of it is there", async () => {
  await using server = await startFixture();
  for (const init of [preflight(page), { headers: { origin: page } }]) {
    const response = await server.send("/v1/tasks", init);
    await response.body?.cancel();
    expect([corsOf(response), response.headers.get("vary")]).toEqual([[], null]);
  }
});
