// What `GET /v1/usage` asks of the ledger and shows of its answer, and for whom; what is counted is tested in src/usage.
import { expect, test } from "bun:test";
import type { Keys } from "../keys/keys.ts";
import type { Scope } from "../keys/principal.ts";
import type { UsageQuery, UsageSum } from "../usage/report.ts";
import { startFixture } from "./server-fixture.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const midnight = Date.UTC(2026, 10, 21);
const sum: UsageSum = {
  startMs: midnight,
  endMs: midnight + DAY_MS,
  keyId: null,
  model: "org/small",
  provider: null,
  requests: 2,
  promptTokens: 30,
  completionTokens: 40,
  cachedTokens: 16,
};

/** A key is its id and its scopes. */
const keys: Keys = {
  authenticate(presented) {
    const [keyId = "", ...scopes] = presented.split("+");
    return { keyId, scopes: new Set(scopes as Scope[]), ratePerMinute: null, tokensPerDay: null, stored: true };
  },
  holder: () => null,
};

async function start() {
  const asked: UsageQuery[] = [];
  const quotaAsked: string[] = [];
  const server = await startFixture({
    keys,
    usage: {
      async report(query) {
        asked.push(query);
        return [sum];
      },
      async quotaOf(keyId) {
        quotaAsked.push(keyId);
        return { limit: 100, used: 70, remaining: 30, resetsMs: midnight + DAY_MS };
      },
    },
  });
  const get = async (query: string, key = "alice+tasks:read"): Promise<[number, Record<string, unknown>]> => {
    const response = await fetch(`${server.url}/v1/usage${query}`, { headers: { "x-api-key": key } });
    return [response.status, (await response.json()) as Record<string, unknown>];
  };
  return { asked, quotaAsked, get, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

test("without a question: the key's own day by model, and its quota", async () => {
  await using usage = await start();
  const [status, body] = await usage.get("");
  expect(status).toBe(200);
  expect(body).toEqual({
    object: "list",
    data: [
      {
        start: "2026-11-21T00:00:00.000Z",
        end: "2026-11-22T00:00:00.000Z",
        model: "org/small",
        requests: 2,
        prompt_tokens: 30,
        completion_tokens: 40,
        cached_tokens: 16,
      },
    ],
    quota: { limit: 100, used: 70, remaining: 30, resets_at: "2026-11-22T00:00:00.000Z" },
  });
  const [{ fromMs, toMs, ...rest } = { fromMs: 0, toMs: 0 }] = usage.asked;
  expect(rest).toEqual({ keyId: "alice", groups: ["model"] });
  expect([fromMs % DAY_MS, toMs % HOUR_MS]).toEqual([0, 0]);
  expect(fromMs).toBeLessThanOrEqual(Date.now());
  expect(toMs).toBeGreaterThanOrEqual(Date.now());
});

test("times are widened to whole hours, and what is grouped by is passed on", async () => {
  await using usage = await start();
  await usage.get("?from=2026-11-20T10:20:00Z&to=2026-11-20T13:00:00%2B01:00&group_by=hour,key,provider");
  const at = Date.UTC(2026, 10, 20, 10);
  const groups = ["hour", "key", "provider"] as const;
  expect(usage.asked).toEqual([{ fromMs: at, toMs: at + 2 * HOUR_MS, keyId: "alice", groups: [...groups] }]);
});

test("another key's usage, and that of all, is for admins; all keys have no quota", async () => {
  await using usage = await start();
  for (const key of ["bob", "*"]) {
    expect(await usage.get(`?key=${key}`)).toMatchObject([403, { code: "forbidden" }]);
    expect(await usage.get(`?key=${key}`, "root+tasks:read+admin")).toMatchObject([200, {}]);
  }
  expect((await usage.get("?key=alice"))[0]).toBe(200);
  expect(usage.asked.map(({ keyId }) => keyId)).toEqual(["bob", null, "alice"]);
  expect(usage.quotaAsked).toEqual(["bob", "alice"]);
});

test.each([
  ["?from=yesterday", "/from"],
  ["?group_by=user", "/group_by"],
  ["?group_by=", "/group_by"],
  ["?from=2026-11-21T10:00:00Z&to=2026-11-21T10:00:00Z", "/to"],
  ["?from=2026-11-21T10:00:00Z&from=2026-11-20T10:00:00Z", "/from"],
  ["?form=2026-11-21T10:00:00Z", "/form"],
  ["?key=a%20b", "/key"],
  ["?from=2024-11-21T00:00:00Z&to=2026-11-21T00:00:00Z", "/to"],
  ["?key=*&from=2026-10-01T00:00:00Z&to=2026-11-21T00:00:00Z", "/to"],
])("%s is refused", async (query, path) => {
  await using usage = await start();
  const [status, body] = await usage.get(query, "root+tasks:read+admin");
  expect([status, body.code, (body.errors as { path: string }[])[0]?.path]).toEqual([422, "invalid_request", path]);
  expect(usage.asked).toEqual([]);
});
