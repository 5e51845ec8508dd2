// Stored keys on the whole service: made, rotated and revoked by the command line while two gateways run on one
// DATA_DIR, and the tasks of each key its own.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type Stack, startStack, until } from "./stack.ts";

setDefaultTimeout(60_000);

const main = join(import.meta.dir, "../src/main.ts");
/** Changes are promised within so long, on every gateway. */
const SEEN_MS_MAX = 5_000;

/** Whoever looks for a key again and again before it is known comes from another address each time. */
const TRUSTED_PROXIES = "127.0.0.1";
let looks = 0;

let stack: Stack;
let second: { readonly url: string; readonly child: Bun.Subprocess };
beforeAll(async () => {
  stack = await startStack({ settings: { MODELS: "echo", TRUSTED_PROXIES } });
  second = await startGateway(stack);
});
afterAll(async () => {
  second.child.kill("SIGTERM");
  await second.child.exited;
  await stack.stop();
});

const settings = (dataDir: string): Record<string, string> => ({
  PATH: process.env.PATH ?? "",
  ENV: "dev",
  DATA_DIR: dataDir,
  API_KEYS: "test:stack-test-key",
  LOG_LEVEL: "warn",
  TRUSTED_PROXIES,
});

/** One more gateway on the stack's broker and folder. */
async function startGateway({ dataDir }: Stack): Promise<typeof second> {
  const ready = Promise.withResolvers<string>();
  const child = Bun.spawn([process.execPath, main, "gateway"], {
    env: { ...settings(dataDir), PORT: "0" },
    stdio: ["ignore", "ignore", "inherit"],
    ipc: (message: { type: string; url: string }) => message.type === "ready" && ready.resolve(message.url),
    onExit: () => ready.reject(new Error("the second gateway ended before it was ready")),
  });
  return { url: await ready.promise, child };
}

interface CommandResult {
  readonly code: number;
  readonly output: Readonly<Record<string, unknown>>;
  readonly error: string;
}

async function keys(...args: string[]): Promise<CommandResult> {
  const env = settings(stack.dataDir);
  const child = Bun.spawn([process.execPath, main, "keys", ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  const [output, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, output: output === "" ? {} : JSON.parse(output), error };
}

/** What both gateways answer to a path that does not exist, which does not count: 404 for a good key, 401 for another. */
const answers = (key: string): Promise<number[]> =>
  Promise.all(
    [stack.url, second.url].map(async (url) => {
      const address = `198.51.${(looks >> 8) & 255}.${looks++ & 255}`;
      const headers = { "x-api-key": key, "x-forwarded-for": address };
      const response = await fetch(`${url}/v1/nothing`, { headers });
      return response.status;
    }),
  );
const seen = (key: string, status: number): Promise<true> =>
  until(`${status} on both gateways`, SEEN_MS_MAX, async () =>
    (await answers(key)).every((answer) => answer === status) ? true : null,
  );

test("a key is made, used, rotated and revoked, and both gateways follow", async () => {
  const { output: made } = await keys("create", "--name", "web", "--expires", "1h");
  const [id, first] = [String(made.id), String(made.key)];
  expect(made).toMatchObject({ name: "web", status: "live", scopes: ["tasks:read", "tasks:write"] });
  await seen(first, 404);

  const accepted = await stack.call("POST", "/v1/tasks", { model: "echo", input: {} }, { "x-api-key": first });
  expect(accepted.status).toBe(202);
  const { task_id } = (await accepted.json()) as { task_id: string };
  const read = (key: string) => fetch(`${second.url}/v1/tasks/${task_id}`, { headers: { "x-api-key": key } });
  expect([(await read(first)).status, (await read(stack.key)).status]).toEqual([200, 404]);

  const { output: rotated } = await keys("rotate", id, "--overlap", "1h");
  expect(rotated).toMatchObject({ id, previous_until: expect.any(String) });
  await seen(String(rotated.key), 404);
  expect(await answers(first)).toEqual([404, 404]);
  expect((await read(String(rotated.key))).status).toBe(200);

  expect((await keys("revoke", first)).output).toMatchObject({ id, status: "revoked" });
  await Promise.all([seen(first, 401), seen(String(rotated.key), 401)]);
});

test("a key may do what its scopes say, and no more", async () => {
  const { output } = await keys("create", "--name", "reader", "--scopes", "tasks:read");
  const reader = String(output.key);
  await seen(reader, 404);
  const refused = await stack.call("POST", "/v1/tasks", { model: "echo", input: {} }, { "x-api-key": reader });
  expect(refused.status).toBe(403);
  expect(await refused.json()).toMatchObject({ code: "forbidden", detail: expect.stringContaining("tasks:write") });
});

test("two gateways count a key's requests together: as many as its limit pass, and each answer says what is left", async () => {
  const { output } = await keys("create", "--name", "slow", "--rate-limit", "30");
  const key = String(output.key);
  await seen(key, 404);
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      fetch(`${[stack.url, second.url][i % 2]}/v1/models`, { headers: { "x-api-key": key } }),
    ),
  );
  const passed = answers.filter(({ status }) => status === 200);
  const refused = answers.filter(({ status }) => status === 429);
  expect([passed.length, refused.length]).toEqual([30, 20]);
  for (const { headers } of answers) {
    expect(headers.get("ratelimit-policy")).toBe('"minute";q=30;w=60');
    expect(headers.get("ratelimit")).toMatch(/^"minute";r=\d+;t=\d+$/);
  }
  const waitS = Number(refused[0]?.headers.get("retry-after"));
  expect(waitS).toBeGreaterThan(0);
  expect(waitS).toBeLessThanOrEqual(60);
});

test("what is listed and what is stored holds no secret", async () => {
  const { output: made } = await keys("create", "--name", "batch");
  const { output: list } = await keys("list");
  expect((list.data as { id: string }[]).map(({ id }) => id)).toContain(String(made.id));
  const secret = String(made.key).split("_")[3] ?? "";
  expect(secret).toHaveLength(38);
  expect(JSON.stringify(list)).not.toContain(secret);
  const stored = await Bun.$`cat ${stack.dataDir}/kept.sqlite ${stack.dataDir}/kept.sqlite-wal`.quiet();
  expect(stored.stdout.includes(String(made.id))).toBe(true);
  expect(stored.stdout.includes(secret)).toBe(false);
  expect(JSON.stringify(stack.log())).not.toContain(secret);
});

test("what cannot be done is said in one line, with an exit code", async () => {
  const unknown = await keys("revoke", "mr_0000000000zz");
  expect([unknown.code, unknown.error]).toEqual([1, "millrace: there is no key mr_0000000000zz, or it is revoked\n"]);
  const wrong = await keys("create", "--name", "x", "--scopes", "all");
  expect([wrong.code, wrong.error]).toEqual([2, expect.stringContaining('no scope "all": there are tasks:read')]);
});

test("one key's long queue does not stand before another's short one", async () => {
  const { output } = await keys("create", "--name", "short");
  const own = { "x-api-key": String(output.key) };
  await seen(String(output.key), 404);
  const submit = async (count: number, by: Readonly<Record<string, string>>): Promise<string[]> => {
    const task = { model: "echo", input: { sleep_ms: 30 } }; // of which the actor runs eight at once
    const answer = await stack.call(
      "POST",
      "/v1/tasks/batch",
      { tasks: Array.from({ length: count }, () => task) },
      by,
    );
    return ((await answer.json()) as { results: { task_id: string }[] }).results.map(({ task_id }) => task_id);
  };
  const long = await submit(800, {});
  const short = await submit(10, own);
  for (const id of short) {
    const ended = await stack.call("GET", `/v1/tasks/${id}`, undefined, { ...own, prefer: "wait=30" });
    expect(ended.status).toBe(200);
  }
  // By order of arrival it would have ended before the first of the ten.
  expect((await stack.read(long.at(-1) ?? "")).status).toBe("PENDING");
});
