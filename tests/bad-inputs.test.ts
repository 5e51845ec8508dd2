// The catalogue of bad inputs against the whole service: every row gets its status and a problem that tells nothing of
// the inside, and afterwards the service works as before.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Answered, type Row, readRows, runRow, type Values } from "./bad-input-rows.ts";
import { type Stack, startStack } from "./stack.ts";

const keyA = "bad-inputs-key-a";
const keyB = "bad-inputs-key-b";

let stack: Stack;
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
  stack = await startStack({ apiKeys: `a:${keyA},b:${keyB}` });
  values = new Map([
    ["KEY_A", keyA],
    ["KEY_B", keyB],
    ["KEY_UNKNOWN", "bad-inputs-key-of-nobody"],
    ["MODEL", "echo"],
    ["VLM_MODEL", "superres-x2"],
    ["TASK_A", await submit(keyA, { sleep_ms: 3_600_000 })],
    ["TASK_B", await submit(keyB, { sleep_ms: 3_600_000 })],
    ["TASK_DONE_A", await submit(keyA, {}, "wait=20")],
  ]);
});

afterAll(() => stack.stop());

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
  for (const row of readRows()) {
    test(`${row.name}: ${row.note}`, async () => {
      const answers = await runRow(stack.url, row, values);
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
