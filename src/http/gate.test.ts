// What stands before every route that needs a key, over the real server: limits and their headers, and wrong keys
// counted by address.
import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import { newKeyId, newKeyText } from "../keys/key-text.ts";
import { createKeys, type Keys } from "../keys/keys.ts";
import type { Limits, Verdict } from "../keys/limits.ts";
import { silentLog } from "../log.ts";
import { createFailedKeys } from "./failed-keys.ts";
import { knownTaskId, startFixture, testKey } from "./server-fixture.ts";

const path = `/v1/tasks/${knownTaskId}`;
const always = (verdict: Verdict): Limits => ({ take: async () => verdict });
const limitOf = ({ headers }: Response) => [headers.get("ratelimit-policy"), headers.get("ratelimit")];

test("every answer to a key with a limit says what is left, errors too; others say nothing", async () => {
  const verdict = { admitted: true, limit: 100, remaining: 42, resetS: 7 };
  const said = ['"minute";q=100;w=60', '"minute";r=42;t=7'];
  await using server = await startFixture({
    limits: always(verdict),
    tasks: {
      read() {
        throw new AppError("task_not_found", "There is no such task.");
      },
    },
  });
  expect(limitOf(await server.send("/v1/models"))).toEqual(said);
  expect(limitOf(await server.send("/v1/models", { method: "HEAD" }))).toEqual(said);
  const missing = await server.send(path);
  expect([missing.status, ...limitOf(missing)]).toEqual([404, ...said]);
  expect(limitOf(await server.send(path, { headers: { "x-api-key": "wrong" } }))).toEqual([null, null]);
  expect(limitOf(await fetch(`${server.url}/health/live`))).toEqual([null, null]);
  await using free = await startFixture();
  expect(limitOf(await free.send("/v1/models"))).toEqual([null, null]);
});

test("a key that has made its requests gets 429 with the time to wait, and nothing is done", async () => {
  await using server = await startFixture({ limits: always({ admitted: false, limit: 3, remaining: 0, resetS: 12 }) });
  const response = await server.send(path);
  expect([response.status, response.headers.get("retry-after")]).toEqual([429, "12"]);
  expect(limitOf(response)).toEqual(['"minute";q=3;w=60', '"minute";r=0;t=12']);
  const problem = { code: "rate_limited", detail: "This key has made its 3 requests of this minute.", retryable: true };
  expect(await response.json()).toMatchObject(problem);
  expect(server.calls).toEqual([]);
});

test("an address with 60 wrong keys gets 429 for right and wrong ones of API_KEYS; a stored key passes", async () => {
  const { text } = newKeyText("dev", newKeyId());
  const configured = createKeys([{ id: "alice", secret: testKey }]);
  const stored = {
    keyId: "mr_x",
    scopes: new Set(["tasks:read"] as const),
    ratePerMinute: null,
    tokensPerDay: null,
    stored: true,
  };
  const keys: Keys = {
    ...configured,
    authenticate: (given) => (given === text ? stored : configured.authenticate(given)),
  };
  await using server = await startFixture({ keys, config: { trustedProxies: ["127.0.0.1"] } });
  const send = async (key: string | null, address: string) => {
    const headers = { "x-forwarded-for": address, ...(key !== null && { "x-api-key": key }) };
    return fetch(server.url + path, { headers });
  };
  const statusOf = async (key: string | null, address: string) => (await send(key, address)).status;
  for (let i = 0; i < 60; i++) expect(await statusOf(`guess-${i}`, "203.0.113.9")).toBe(401);
  const [right, wrong] = [await send(testKey, "203.0.113.9"), await send("guess", "203.0.113.9")];
  expect([right.status, wrong.status, right.headers.get("retry-after")]).toEqual([429, 429, "1"]);
  expect(await right.json()).toMatchObject({ code: "rate_limited" });
  expect(await statusOf(text, "203.0.113.9")).toBe(200);
  expect(await statusOf(testKey, "203.0.113.10")).toBe(200);
  expect(await statusOf(null, "203.0.113.9")).toBe(401); // no key is no guess
});

test("wrong keys are forgotten by one a second, and memory of them has an end", () => {
  const time = { now: 0 };
  const clock = { now: () => time.now, monotonicMs: () => time.now };
  const failed = createFailedKeys(clock, silentLog);
  expect(failed.any()).toBe(false);
  for (let i = 0; i < 60; i++) failed.failed("203.0.113.9");
  expect([failed.any(), failed.waitS("203.0.113.9")]).toEqual([true, 1]);
  time.now += 1_000;
  expect(failed.waitS("203.0.113.9")).toBe(0);
  failed.failed("203.0.113.9");
  expect(failed.waitS("203.0.113.9")).toBe(1);
  time.now += 60_000;
  expect([failed.waitS("203.0.113.9"), failed.any()]).toEqual([0, false]);

  // One household has a /64.
  for (let i = 0; i < 60; i++) failed.failed(`2001:db8:1:2::${i.toString(16)}`);
  expect([failed.waitS("2001:db8:1:2:ffff::1"), failed.waitS("2001:db8:1:3::1")]).toEqual([1, 0]);
  for (let i = 0; i < 10_000; i++) failed.failed(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
  expect(failed.waitS("2001:db8:1:2::1")).toBe(0);
});
