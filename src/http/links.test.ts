// Links through the real server: what a ticket opens, and all that it does not.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { systemClock } from "../clock.ts";
import { createKeys, type Keys } from "../keys/keys.ts";
import { createTickets } from "../keys/tickets.ts";
import { type Fixture, jsonPost, knownTaskId, otherKey, startFixture, testKey } from "./server-fixture.ts";

const configured = createKeys([
  { id: "alice", secret: testKey },
  { id: "bob", secret: otherKey },
]);
let revoked: readonly string[] = [];
const keys: Keys = { ...configured, holder: (id) => (revoked.includes(id) ? null : configured.holder(id)) };
const secret = new Uint8Array(32).fill(7);
const owners: string[] = [];
let server: Fixture;

beforeAll(async () => {
  const result = async (_id: string, owner: { keyId: string }) => {
    owners.push(owner.keyId);
    return { kind: "json", json: '{"a":1}' } as const;
  };
  server = await startFixture({ keys, tickets: createTickets(secret, systemClock), tasks: { result } });
});
afterAll(() => server[Symbol.asyncDispose]());

interface Made {
  readonly events: string;
  readonly result: string;
  readonly expires_at: string;
}

async function made(body: object = {}): Promise<Made> {
  const response = await server.send(`/v1/tasks/${knownTaskId}/links`, jsonPost(body));
  expect(response.status).toBe(200);
  return (await response.json()) as Made;
}

/** Without a key. */
const open = (path: string, init: RequestInit = {}): Promise<Response> => fetch(server.url + path, init);

const answerOf = async (path: string, init?: RequestInit): Promise<[number, string]> => {
  const response = await open(path, init);
  return [response.status, ((await response.json()) as { code: string }).code];
};

test("a link reads its one thing, as the key that made it, until it ends", async () => {
  const beforeMs = Date.now();
  const { result, events, expires_at } = await made({ expires_in_s: 60 });
  expect(Date.parse(expires_at)).toBeWithin(beforeMs + 60_000, Date.now() + 61_001);
  const response = await open(result);
  expect([response.status, await response.text()]).toEqual([200, '{"a":1}']);
  expect(owners.at(-1)).toBe("alice");
  expect((await open(result, { method: "HEAD" })).status).toBe(200);
  expect((await open(events)).status).toBe(204);
});

test("an accepted task's events need no key", async () => {
  const task = { model: "echo", input: {} };
  for (const [path, body] of [
    ["/v1/tasks", task],
    [`/v1/tasks/${knownTaskId}/retry`, {}],
  ] as const) {
    const { urls } = (await (await server.send(path, jsonPost(body))).json()) as { urls: { events: string } };
    expect((await open(urls.events)).status).toBe(204);
  }
  const batch = await server.send("/v1/tasks/batch", jsonPost({ tasks: [task] }));
  const { results } = (await batch.json()) as { results: { urls: { events: string } }[] };
  expect((await open(results[0]?.urls.events ?? "")).status).toBe(204);
});

test("nothing else is opened by it", async () => {
  const { result, events } = await made();
  const ticket = result.split("?ticket=")[1] ?? "";
  const other = knownTaskId.replace(/.$/, "0");
  const refused: [number, string] = [403, "link_expired"];
  expect(await answerOf(`/v1/tasks/${other}/result?ticket=${ticket}`)).toEqual(refused);
  expect(await answerOf(`/v1/tasks/${knownTaskId}/events?ticket=${ticket}`)).toEqual(refused);
  expect(await answerOf(`${result.slice(0, -1)}${result.endsWith("A") ? "B" : "A"}`)).toEqual(refused);
  expect(await answerOf(result.replace(".alice.", ".bob."))).toEqual(refused);
  expect(await answerOf(result.replace(/ticket=[0-9a-z]+/, "ticket=zzzzzzzz"))).toEqual(refused);
  for (const bad of ["", "x", "..", `${ticket}.${ticket}`, "%00", "a".repeat(5_000)]) {
    expect(await answerOf(`/v1/tasks/${knownTaskId}/result?ticket=${bad}`)).toEqual(refused);
  }
  // A ticket is no key: other routes and methods do not look at it.
  for (const [method, path] of [
    ["GET", `/v1/tasks/${knownTaskId}`],
    ["DELETE", `/v1/tasks/${knownTaskId}/data`],
    ["POST", `/v1/tasks/${knownTaskId}/links`],
    ["GET", "/v1/tasks"],
    ["POST", `/v1/tasks/${knownTaskId}/result`],
  ] as const) {
    expect((await answerOf(`${path}?ticket=${ticket}`, { method }))[0]).toBe(401);
  }
  // A key that is shown is the one that counts.
  expect((await open(events, { headers: { "x-api-key": "wrong" } })).status).toBe(401);
});

test("it ends with its time and with its key", async () => {
  const path = `/v1/tasks/${knownTaskId}/result`;
  const past = createTickets(secret, systemClock).issue(path, "alice", Date.now() - 1_000);
  expect(await answerOf(`${path}?ticket=${past}`)).toEqual([403, "link_expired"]);
  const { result } = await made();
  revoked = ["alice"];
  expect(await answerOf(result)).toEqual([403, "link_expired"]);
  revoked = [];
  expect((await open(result)).status).toBe(200);
});

test.each([{ expires_in_s: 9 }, { expires_in_s: 604_801 }, { expires_in_s: 1.5 }, { more: 1 }])(
  "refused: %j",
  async (body) => {
    const response = await server.send(`/v1/tasks/${knownTaskId}/links`, jsonPost(body));
    expect(response.status).toBe(422);
  },
);
