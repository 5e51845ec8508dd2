// What a key may do, route by route: the decision comes before the handler and is the same for both headers.
import { expect, test } from "bun:test";
import type { Keys } from "../keys/keys.ts";
import { type Scope, scopes } from "../keys/principal.ts";
import { scopeOf } from "./route.ts";
import { knownTaskId, startFixture } from "./server-fixture.ts";

/** A key is the list of its scopes. */
const keys: Keys = {
  authenticate: (presented) => ({
    keyId: "alice",
    scopes: new Set(presented.split("+") as Scope[]),
    ratePerMinute: null,
    tokensPerDay: null,
    stored: true,
  }),
  holder: () => null,
};

test("every route refuses a key that has all scopes but the one it needs, by name", async () => {
  await using server = await startFixture({ keys });
  for (const route of server.http.routes) {
    if (route.access !== "key") continue;
    const needed = scopeOf(route);
    const others = scopes.filter((scope) => scope !== needed).join("+");
    for (const headers of [{ "x-api-key": others }, { authorization: `Bearer ${others}` }]) {
      const url = server.url + route.path.replace("{id}", knownTaskId);
      const response = await fetch(url, { method: route.method, headers });
      expect([route.path, response.status]).toEqual([route.path, 403]);
      const problem = await response.text(); // in the form of the route's errors
      expect(problem).toContain('"code":"forbidden"');
      expect(problem).toContain(`"This key lacks the scope ${needed}."`);
    }
  }
  expect(server.calls).toEqual([]);
});

test("reading needs tasks:read, the rest tasks:write, and HEAD what GET needs", async () => {
  await using server = await startFixture({ keys });
  const status = async (method: string, key: string): Promise<number> =>
    (await fetch(`${server.url}/v1/tasks/${knownTaskId}`, { method, headers: { "x-api-key": key } })).status;
  expect([await status("GET", "tasks:read"), await status("GET", "tasks:write")]).toEqual([200, 403]);
  expect([await status("HEAD", "tasks:read"), await status("HEAD", "tasks:write")]).toEqual([200, 403]);
  expect([await status("DELETE", "tasks:read"), await status("DELETE", "tasks:write")]).toEqual([403, 202]);
});
