// Tasks as a client meets them, on the whole service: accepted once, run once, in order of priority, tried again,
// cancelled, waited for, and never shown older than they were.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { folderBlobs } from "../src/blobs/folder.ts";
import { readLast } from "../src/bus/log.ts";
import { streams, subjects } from "../src/bus/subjects.ts";
import type { JobRecord } from "../src/tasks/records.ts";
import { events, names, readEvents } from "./event-reader.ts";
import { type Stack, startStack, type TaskJson } from "./stack.ts";

setDefaultTimeout(60_000);

const otherKey = "tasks-test-key-of-another";
let stack: Stack;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace tasks "));
  const pluginsDir = join(import.meta.dir, "fixtures/plugins");
  stack = await startStack({
    apiKeys: `test:tasks-test-key,other:${otherKey}`,
    settings: { PLUGINS_DIR: pluginsDir, MODELS: "echo,recorder,refuser,forger" },
  });
});

afterAll(async () => {
  await stack.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What has run so far, in order: the recorder's lines in a file of its own for each test. */
function recording() {
  const file = join(folder, `${Bun.randomUUIDv7()}.txt`);
  return {
    body: (name: string, more: object = {}) => ({ model: "recorder", input: { file, name, ...more } }),
    ran: async (): Promise<string[]> => (await readFile(file, "utf8").catch(() => "")).split("\n").slice(0, -1),
  };
}

/** Occupies the recorder's only slot until it is cancelled. */
async function occupy(recorder: ReturnType<typeof recording>): Promise<{ free(): Promise<void> }> {
  const { task_id: id } = await stack.submit(recorder.body("occupant", { sleep_ms: 600_000 }));
  await stack.started(id);
  return {
    async free() {
      expect((await stack.call("POST", `/v1/tasks/${id}/cancel`)).status).toBe(202);
      expect(await stack.ended(id)).toMatchObject({ status: "CANCELLED" });
    },
  };
}

const cancel = (id: string): Promise<Response> => stack.call("POST", `/v1/tasks/${id}/cancel`);
const codeOf = async (response: Response): Promise<unknown> => ((await response.json()) as { code: unknown }).code;

describe("the same client_request_id", () => {
  test("is the same task: 200 and Idempotency-Replayed, whatever the order of the keys", async () => {
    const recorder = recording();
    const body = { ...recorder.body("once"), client_request_id: "replayed", metadata: { a: "1", b: "2" } };
    const first = await stack.call("POST", "/v1/tasks", body);
    expect([first.status, first.headers.get("idempotency-replayed")]).toEqual([202, null]);
    const { task_id: id } = (await first.json()) as TaskJson;
    const turned = { metadata: { b: "2", a: "1" }, client_request_id: "replayed", ...recorder.body("once") };
    const second = await stack.call("POST", "/v1/tasks", turned);
    expect([second.status, second.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
    expect(await second.json()).toMatchObject({ task_id: id });
    await stack.ended(id);
    const third = await stack.call(
      "POST",
      "/v1/tasks",
      { ...body, client_request_id: undefined },
      {
        "idempotency-key": "replayed",
      },
    );
    expect(third.status).toBe(200);
    expect(await third.json()).toMatchObject({ task_id: id, status: "SUCCESS" });
    expect(await recorder.ran()).toEqual(["once"]);
  });

  test("with another body is refused, and the task stays as it was", async () => {
    const body = { model: "echo", input: { text: "a" }, client_request_id: "mismatch" };
    const { task_id: id } = await stack.submit(body);
    for (const other of [
      { input: { text: "b" } },
      { priority: "high" },
      { max_attempts: 2 },
      { metadata: { a: "1" } },
    ]) {
      const refused = await stack.call("POST", "/v1/tasks", { ...body, ...other });
      expect(refused.status).toBe(422);
      expect(await codeOf(refused)).toBe("idempotency_mismatch");
    }
    expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS", result: { echo: { text: "a" } } });
  });

  test("fifty times at once is one 202, one id and one execution", async () => {
    const recorder = recording();
    const body = { ...recorder.body("only"), client_request_id: "fifty" };
    const answers = await Promise.all(Array.from({ length: 50 }, () => stack.call("POST", "/v1/tasks", body)));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([...Array<number>(49).fill(200), 202]);
    const ids = new Set(await Promise.all(answers.map(async (answer) => ((await answer.json()) as TaskJson).task_id)));
    expect(ids.size).toBe(1);
    const [id = ""] = ids;
    expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS", attempt: 1 });
    expect(await recorder.ran()).toEqual(["only"]);
    expect(names(await readEvents(stack, id))).toEqual(["PENDING", "STARTED", "SUCCESS"]);
  });

  test("of another key is a task of its own, which the first key does not see", async () => {
    const body = { model: "echo", input: { text: "whose?" }, client_request_id: "shared" };
    const mine = await stack.submit(body);
    const theirs = await stack.call("POST", "/v1/tasks", body, { "x-api-key": otherKey });
    expect(theirs.status).toBe(202);
    const { task_id: theirId } = (await theirs.json()) as TaskJson;
    expect(theirId).not.toBe(mine.task_id);
    await stack.ended(mine.task_id);
    const paths = ["", "/result", "/events"].map((path) => ["GET", `/v1/tasks/${theirId}${path}`] as const);
    for (const [method, path] of [...paths, ["POST", `/v1/tasks/${theirId}/cancel`] as const]) {
      const answer = await stack.call(method, path);
      expect([path, answer.status]).toEqual([path, 404]);
      expect(await codeOf(answer)).toBe("task_not_found");
    }
  });
});

test("priority: behind a busy slot high goes before normal before low, whatever came first", async () => {
  const recorder = recording();
  const occupant = await occupy(recorder);
  const submitted: string[] = [];
  for (const [round, priority] of [1, 2, 3].flatMap((n) => ["low", "normal", "high"].map((p) => [n, p] as const))) {
    const { task_id: id } = await stack.submit({ ...recorder.body(`${priority} ${round}`), priority });
    submitted.push(id);
  }
  await occupant.free();
  for (const id of submitted) expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS", attempt: 1 });
  const order = (await recorder.ran()).slice(1).map((name) => name.split(" ")[0]);
  expect(order).toEqual(["high", "high", "high", "normal", "normal", "normal", "low", "low", "low"]);
});

describe("attempts", () => {
  test("a failure that may pass is tried again, and its events tell so", async () => {
    const { task_id: id } = await stack.submit({ model: "echo", input: { fail_times: 1 } });
    expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS", attempt: 2, result: { echo: { fail_times: 1 } } });
    const seen = await readEvents(stack, id);
    expect(seen.map(({ event, data }) => [event, data.attempt])).toEqual([
      ["PENDING", 0],
      ["STARTED", 1],
      ["RETRY", 1],
      ["STARTED", 2],
      ["SUCCESS", 2],
    ]);
    expect(seen[2]?.data).toMatchObject({ error: { code: "echo_failed", stage: "infer", retryable: true } });
    expect(seen[2]?.data.retry_in_ms).toBeWithin(500, 1_001);
  });

  test("between two attempts the task is in RETRY", async () => {
    const { task_id: id } = await stack.submit({ model: "echo", input: { fail_times: 1 } });
    for await (const { event } of events(stack, id)) if (event === "RETRY") break;
    expect(await stack.read(id)).toMatchObject({ status: "RETRY", attempt: 1 });
    expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS" });
  });

  test("max_attempts of the request is the limit; the last failure is the task's", async () => {
    for (const max_attempts of [1, 2]) {
      const { task_id: id } = await stack.submit({ model: "echo", input: { fail_times: 9 }, max_attempts });
      const error = { code: "echo_failed", retryable: false, stage: "infer" };
      expect(await stack.ended(id)).toMatchObject({ status: "FAILURE", attempt: max_attempts, error });
      const seen = names(await readEvents(stack, id));
      expect(seen.filter((event) => event === "STARTED")).toHaveLength(max_attempts);
      const result = await stack.call("GET", `/v1/tasks/${id}/result`);
      expect([result.status, await codeOf(result)]).toEqual([404, "no_result"]);
    }
  });

  test("retryable: false is never tried again", async () => {
    const { task_id: id } = await stack.submit({ model: "refuser", input: {}, max_attempts: 20 });
    const error = { code: "refused_for_good", message: "No attempt will change this", stage: "prepare" };
    expect(await stack.ended(id)).toMatchObject({ status: "FAILURE", attempt: 1, error });
    expect(names(await readEvents(stack, id))).toEqual(["PENDING", "STARTED", "FAILURE"]);
  });
});

describe("cancel", () => {
  test("a task that waits never runs, and is CANCELLED at once", async () => {
    const recorder = recording();
    const occupant = await occupy(recorder);
    const { task_id: id } = await stack.submit(recorder.body("cancelled"));
    const answer = await cancel(id);
    expect(answer.status).toBe(202);
    expect(await answer.json()).toMatchObject({ task_id: id, status: "PENDING" });
    expect(await stack.ended(id, 5_000)).toMatchObject({ status: "CANCELLED", attempt: 0, actor: null });
    const next = await stack.submit(recorder.body("next"));
    await occupant.free();
    await stack.ended(next.task_id);
    expect(await recorder.ran()).toEqual(["occupant", "next"]);
    expect(names(await readEvents(stack, id))).toEqual(["PENDING", "CANCELLED"]);
  });

  test("a running task is stopped, its slot is free, and a second cancel changes nothing", async () => {
    const { task_id: id } = await stack.submit({ model: "echo", input: { sleep_ms: 600_000 } });
    await stack.started(id);
    const [first, second] = await Promise.all([cancel(id), stack.call("DELETE", `/v1/tasks/${id}`)]);
    expect(first.status).toBe(202);
    expect([202, 409]).toContain(second.status);
    expect(await stack.ended(id, 5_000)).toMatchObject({ status: "CANCELLED", attempt: 1 });
    expect(names(await readEvents(stack, id))).toEqual(["PENDING", "STARTED", "CANCELLED"]);
    const late = await cancel(id);
    expect([late.status, await codeOf(late)]).toEqual([409, "task_finished"]);
  });

  test("a task between two attempts is not tried again", async () => {
    const { task_id: id } = await stack.submit({ model: "echo", input: { fail_times: 9 }, max_attempts: 9 });
    for await (const { event } of events(stack, id)) if (event === "RETRY") break;
    expect((await cancel(id)).status).toBe(202);
    const ended = await stack.ended(id, 10_000);
    expect(ended.status).toBe("CANCELLED");
    const seen = names(await readEvents(stack, id));
    expect(seen.filter((event) => event === "STARTED")).toHaveLength(ended.attempt);
  });

  test("a finished task stays what it is: 409", async () => {
    const { task_id: id } = await stack.submit({ model: "echo", input: {} });
    await stack.ended(id);
    const answer = await cancel(id);
    expect([answer.status, await codeOf(answer)]).toEqual([409, "task_finished"]);
    expect(await stack.read(id)).toMatchObject({ status: "SUCCESS" });
  });

  test("racing the end a hundred times there is one end, and after 202 it is no SUCCESS", async () => {
    const races = Array.from({ length: 100 }, async (_, i) => {
      const { task_id: id } = await stack.submit({ model: "echo", input: { sleep_ms: i % 10 } });
      const answer = await cancel(id);
      const { status } = await stack.ended(id);
      const seen = names(await readEvents(stack, id));
      expect(seen.filter((event) => ["SUCCESS", "FAILURE", "CANCELLED"].includes(event))).toEqual([status]);
      expect([answer.status, status]).toEqual(answer.status === 202 ? [202, "CANCELLED"] : [409, "SUCCESS"]);
    });
    await Promise.all(races);
  });
});

describe("Prefer: wait", () => {
  test("on POST and GET: 200 with the finished task", async () => {
    const body = { model: "echo", input: { sleep_ms: 200 } };
    const begun = performance.now();
    const posted = await stack.call("POST", "/v1/tasks", body, { prefer: "wait=20" });
    expect([posted.status, posted.headers.get("preference-applied")]).toEqual([200, "wait=20"]);
    expect(await posted.json()).toMatchObject({ status: "SUCCESS", result: { echo: { sleep_ms: 200 } } });
    const { task_id: id } = await stack.submit(body);
    const got = await stack.call("GET", `/v1/tasks/${id}`, undefined, { prefer: "wait=20" });
    expect([got.status, got.headers.get("preference-applied")]).toEqual([200, "wait=20"]);
    expect(await got.json()).toMatchObject({ task_id: id, status: "SUCCESS" });
    expect(performance.now() - begun).toBeLessThan(15_000); // woken by the end, not by the time
  });

  test("202 when the time is over first", async () => {
    const body = { model: "echo", input: { sleep_ms: 600_000 } };
    const begun = performance.now();
    const posted = await stack.call("POST", "/v1/tasks", body, { prefer: "wait=1" });
    expect(posted.status).toBe(202);
    expect(performance.now() - begun).toBeGreaterThan(950);
    const { task_id: id } = (await posted.json()) as TaskJson;
    const got = await stack.call("GET", `/v1/tasks/${id}`, undefined, { prefer: "wait=1" });
    expect(got.status).toBe(202);
    expect(await got.json()).toMatchObject({ status: "STARTED", attempt: 1 });
    const result = await stack.call("GET", `/v1/tasks/${id}/result`);
    expect([result.status, result.headers.get("retry-after")]).toEqual([202, "1"]);
    await cancel(id);
    await stack.ended(id);
  });
});

test("what a client sees never goes back: 200 tasks, read after POST and after the last event", async () => {
  const rank = ["PENDING", "STARTED", "SUCCESS"];
  const one = async (_: unknown, index: number): Promise<void> => {
    // Half of them end at once, half stay STARTED for a while.
    const input = index % 2 === 0 ? {} : { sleep_ms: 20 };
    const { task_id: id } = await stack.submit({ model: "echo", input });
    expect(rank).toContain((await stack.read(id)).status);
    let newest = 0;
    for await (const { event } of events(stack, id)) {
      newest = Math.max(newest, rank.indexOf(event));
      expect(rank.indexOf((await stack.read(id)).status)).toBeGreaterThanOrEqual(newest);
    }
    expect(newest).toBe(2);
    expect((await stack.call("GET", `/v1/tasks/${id}/result`)).status).toBe(200);
  };
  for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 10 }, one));
});

describe("large inputs and results", () => {
  const jobOf = async (id: string): Promise<JobRecord> => {
    const record = await readLast(stack.bus, streams.jobs(0), subjects.anyJob(0, id), 5_000);
    return JSON.parse(record?.text ?? "") as JobRecord;
  };

  test("an input of 16 KiB travels in the job, one byte more as an object", async () => {
    const textOf = (bytes: number): string => "x".repeat(bytes - '{"text":""}'.length);
    const [small, large] = [textOf(16 * 1024), textOf(16 * 1024 + 1)];
    const inline = await stack.submit({ model: "echo", input: { text: small } });
    expect(await stack.ended(inline.task_id)).toMatchObject({ result: { echo: { text: small } } });
    expect(await jobOf(inline.task_id)).toMatchObject({ input: { text: small } });
    const stored = await stack.submit({ model: "echo", input: { text: large } });
    expect(await stack.ended(stored.task_id)).toMatchObject({ result: { echo: { text: large } } });
    const job = await jobOf(stored.task_id);
    expect(job).not.toHaveProperty("input");
    expect(job.inputRef).toMatchObject({ sizeBytes: 16 * 1024 + 1 });
    const kept = await folderBlobs(join(stack.dataDir, "blobs")).read(job.inputRef?.key ?? "", 1 << 20);
    expect(JSON.parse(Buffer.from(kept).toString())).toEqual({ text: large });
  });

  test("a replayed request with a large input leaves no second object behind", async () => {
    const body = { model: "echo", input: { text: "y".repeat(20_000) }, client_request_id: "large" };
    const { task_id: id } = await stack.submit(body);
    await Promise.all(Array.from({ length: 5 }, () => stack.submit(body)));
    const keys: string[] = [];
    for await (const file of new Bun.Glob(`**/*${id}*`).scan(join(stack.dataDir, "blobs"))) keys.push(file);
    expect(keys).toHaveLength(1);
    expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS" });
  });

  test("a JSON result above 64 KiB becomes an object, and /result answers it", async () => {
    const text = "ä".repeat(40_000);
    const { task_id: id } = await stack.submit({ model: "echo", input: { text } });
    const ended = await stack.ended(id);
    const { s3_key, sha256, size_bytes } = ended.result as { s3_key: string; sha256: string; size_bytes: number };
    expect(s3_key).toStartWith(`results/${id}-`);
    expect(JSON.stringify(ended).length).toBeLessThan(2_000);
    const answer = await stack.call("GET", `/v1/tasks/${id}/result`);
    const bytes = await answer.bytes();
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/json"]);
    expect(JSON.parse(Buffer.from(bytes).toString())).toEqual({ echo: { text } });
    expect(bytes.byteLength).toBe(size_bytes);
    expect(new Bun.CryptoHasher("sha256").update(bytes).digest("hex")).toBe(sha256);
  });

  test("a runner's answer that looks like a stored object opens nobody's object", async () => {
    const secret = await stack.call(
      "POST",
      "/v1/tasks",
      { model: "echo", input: { text: "z".repeat(70_000) } },
      {
        "x-api-key": otherKey,
        prefer: "wait=20",
      },
    );
    const { result: theirs } = (await secret.json()) as TaskJson;
    expect(theirs).toHaveProperty("s3_key");
    const { task_id: id } = await stack.submit({ model: "forger", input: { answer: theirs } });
    expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS" });
    const answer = await stack.call("GET", `/v1/tasks/${id}/result`);
    expect(await answer.json()).toEqual(theirs);
  });
});

test("after kill -9 of the gateway the same request is the same task, and its end is known", async () => {
  const recorder = recording();
  const body = { ...recorder.body("survivor", { sleep_ms: 1_500 }), client_request_id: "restart" };
  const { task_id: id } = await stack.submit(body);
  process.kill(await stack.pidOf("gateway"), "SIGKILL");
  await stack.logged({ message: "child is ready", process: "gateway", start: 2 });
  await stack.ready();
  const again = await stack.call("POST", "/v1/tasks", body);
  expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
  expect(await again.json()).toMatchObject({ task_id: id });
  const other = await stack.call("POST", "/v1/tasks", { ...body, priority: "low" });
  expect(await codeOf(other)).toBe("idempotency_mismatch");
  expect(await stack.ended(id)).toMatchObject({ status: "SUCCESS", attempt: 1 });
  expect(await recorder.ran()).toEqual(["survivor"]);
});
