// The catalogue of bad inputs against the whole service: every row gets its status and a problem that tells nothing of
// the inside, and afterwards the service works as before.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type Answered, type Row, readRows, runRow, type Values } from "./bad-input-rows.ts";
import { type Stack, startStack } from "./stack.ts";

const keyA = "bad-inputs-key-a";
const keyB = "bad-inputs-key-b";

const RATE_LIMIT = 20;
const MAIN = join(import.meta.dir, "../src/main.ts");

let stack: Stack;
/** As an operator runs it: ENV=prod, and a limit of requests. */
let strict: Stack;
let values: Values;

const submit = async (key: string, input: object, prefer = ""): Promise<string> => {
  const response = await fetch(`${stack.url}/v1/tasks`, {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json", prefer },
    body: JSON.stringify({ model: "echo", input }),
  });
  expect([200, 202]).toContain(response.status);
  return ((await response.json()) as { task_id: string }).task_id;
};

beforeAll(async () => {
  const prod = { ENV: "prod", MODELS: "echo", RATE_LIMIT_PER_MINUTE: `${RATE_LIMIT}` };
  [stack, strict] = await Promise.all([
    // Rows with wrong keys come from an address each: a hundred from one would be held back.
    startStack({ apiKeys: `a:${keyA},b:${keyB}`, settings: { TRUSTED_PROXIES: "127.0.0.1" } }),
    startStack({ apiKeys: `a:${keyA},b:${keyB}`, settings: prod }),
  ]);
  values = new Map([
    ["KEY_A", keyA],
    ["KEY_B", keyB],
    ["KEY_UNKNOWN", "bad-inputs-key-of-nobody"],
    ["MODEL", "echo"],
    ["VLM_MODEL", "superres-x2"],
    ["TASK_A", await submit(keyA, { sleep_ms: 3_600_000 })],
    ["TASK_B", await submit(keyB, { sleep_ms: 3_600_000 })],
    ["KEY_REVOKED", await revokedKey()],
    ["RATE_LIMIT_PLUS_1", `${RATE_LIMIT + 1}`],
    ["GATEWAY_PUBLIC_HOST", new URL(stack.url).host],
    ["JWT_HS256_SIGNED_WITH_PUBKEY", jwt({ alg: "HS256" })],
    ["JWT_WRONG_AUD", jwt({ alg: "RS256" }, { aud: "somebody-else" })],
    ["JWT_KID_TRAVERSAL", jwt({ alg: "HS256", kid: "../../../../dev/null" })],
    ["TASK_DONE_A", await submit(keyA, {}, "wait=20")],
  ]);
});

afterAll(() => Promise.all([stack.stop(), strict.stop()]));

const jwt = (head: object, claims: object = {}): string =>
  [head, { sub: "a", exp: 4_102_444_800, ...claims }, { signature: 1 }]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");

/** A key that was good until this gateway had heard of its end. */
async function revokedKey(): Promise<string> {
  const keys = async (...args: string[]): Promise<{ id: string; key: string }> => {
    const env = { PATH: process.env.PATH ?? "", ENV: "dev", DATA_DIR: stack.dataDir };
    const child = Bun.spawn([process.execPath, MAIN, "keys", ...args], { env, stdio: ["ignore", "pipe", "inherit"] });
    const text = await child.stdout.text();
    expect(await child.exited).toBe(0);
    return JSON.parse(text) as { id: string; key: string };
  };
  let looks = 0;
  const statusOf = async (key: string): Promise<number> => {
    const headers = { "x-api-key": key, "x-forwarded-for": `198.51.${100 + Math.floor(looks / 256)}.${looks++ % 256}` };
    return (await fetch(`${stack.url}/v1/models`, { headers })).status;
  };
  const { id, key } = await keys("create", "--name", "revoked");
  await stack.until("the key is known", 5_000, async () => ((await statusOf(key)) === 200 ? true : null));
  await keys("revoke", id);
  await stack.until("the key is refused", 5_000, async () => ((await statusOf(key)) === 401 ? true : null));
  return key;
}

/** Rows that need what only an operator's installation has. */
const strictRows = ["metrics_public", "rate_limit_xff_spoof"];

/**
 * Rows of the catalogue that are run elsewhere, because they need a server or a name service of their own:
 * img_endless and img_html_as_png in pictures.test.ts, cb_dns_rebinding in src/net/post.test.ts.
 */

/** What a row promises beyond its status. */
const promises: Readonly<Record<string, (answers: readonly Answered[]) => void>> = {
  auth_none: ([answer]) => expect(answer?.headers.get("www-authenticate")).toStartWith("Bearer"),
  method_unknown: ([answer]) => expect(answer?.headers.get("allow")).toBe("POST, GET, HEAD, OPTIONS"),
  sse_post: ([answer]) => expect(answer?.headers.get("allow")).toBe("GET, HEAD, OPTIONS"),
  cors_unlisted_origin: ([answer]) => expect(answer?.headers.get("access-control-allow-origin")).toBeNull(),
  model_unknown: ([answer]) => expect(codeOf(answer)).toBe("unknown_model"),
  crid_other_body: ([answer]) => expect(codeOf(answer)).toBe("idempotency_mismatch"),
  crid_replay_same(answers) {
    expect(answers.map(({ status }) => status)).toEqual([202, 200]);
    expect(answers[1]?.headers.get("idempotency-replayed")).toBe("true");
    expect(new Set(answers.map(taskIdOf)).size).toBe(1);
  },
  rate_limit_xff_spoof(answers) {
    expect(answers.map(({ status }) => status)).toEqual([...Array<number>(RATE_LIMIT).fill(202), 429]);
    expect(Number(answers.at(-1)?.headers.get("retry-after"))).toBeWithin(1, 61);
  },
  up_traversal_name: ([answer]) => expect(JSON.parse(answer?.text ?? "")).toMatchObject({ filename: "x.png" }),
  crid_50_concurrent(answers) {
    expect(answers.filter(({ status }) => status === 202).length).toBe(1);
    expect(answers.filter(({ status }) => status === 200).length).toBe(49);
    expect(new Set(answers.map(taskIdOf)).size).toBe(1);
  },
};

/** Answered before our code runs, or without a body. */
const withoutProblem = (row: Row): boolean =>
  row.method === "RAW" || row.expect_status === 431 || row.expect_status < 400;

describe("bad inputs", () => {
  for (const [index, row] of readRows().entries()) {
    test(`${row.name}: ${row.note}`, async () => {
      const headers = { "x-forwarded-for": `192.0.2.${index % 256}`, ...row.headers };
      const answers = await runRow(strictRows.includes(row.name) ? strict.url : stack.url, { ...row, headers }, values);
      const promise = promises[row.name];
      if (promise) promise(answers);
      const last = answers.at(-1);
      if (row.name !== "crid_50_concurrent") expect(last?.status).toBe(row.expect_status);
      if (!withoutProblem(row)) expectProblem(row, last);
    });
  }

  test("afterwards a task runs as before, and no prototype has changed", async () => {
    const taskId = await submit(keyA, { text: "still here" }, "wait=20");
    const response = await fetch(`${stack.url}/v1/tasks/${taskId}/result`, { headers: { "x-api-key": keyA } });
    expect(await response.json()).toEqual({ echo: { text: "still here" } });
    expect(({} as { scopes?: unknown }).scopes).toBeUndefined();
  });
});

function expectProblem(row: Row, answer: Answered | undefined): void {
  if (/^\/v1\/(files|models|chat|completions|embeddings|images|audio)/.test(row.path)) {
    const { error } = JSON.parse(answer?.text ?? "") as { error: { code: string; message: string } };
    expect(error).toMatchObject({ code: expect.any(String), message: expect.any(String) });
    expect(answer?.headers.get("content-type")).toBe("application/json");
    expect(answer?.headers.get("x-request-id")).toMatch(/^[\w-]+$/);
    return;
  }
  expect(answer?.headers.get("content-type")).toBe("application/problem+json");
  expect(answer?.headers.get("x-request-id")).toMatch(/^[\w-]+$/);
  const problem = JSON.parse(answer?.text ?? "") as {
    status: number;
    code: string;
    detail: string;
    request_id: string;
  };
  expect(problem.status).toBe(row.expect_status);
  expect(problem.request_id).toBe(answer?.headers.get("x-request-id") ?? "");
  // No stack, no file of ours, no value that was sent.
  expect(answer?.text).not.toMatch(
    /\.ts\b|\bat [A-Z]\w+\.|node_modules|bad-inputs-key|etc\/passwd|169\.254|Nats-Rollup/,
  );
}

const codeOf = (answer: Answered | undefined): string => (JSON.parse(answer?.text ?? "{}") as { code: string }).code;
const taskIdOf = (answer: Answered): string => (JSON.parse(answer.text) as { task_id: string }).task_id;
