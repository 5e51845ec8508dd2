// Two attempts at one task at once: an actor is stopped for so long that its job is given to another, and then it goes
// on. One end, one result object; whoever comes second takes away what it stored.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type HeldJob, readBoard } from "../../src/actors/scoreboard.ts";
import { folderBlobs } from "../../src/blobs/folder.ts";
import { nak } from "../../src/bus/queues.ts";
import { subjects } from "../../src/bus/subjects.ts";
import { type Stack, startStack, until } from "../stack.ts";
import { endsOf, tokensOf } from "./records.ts";

setDefaultTimeout(60_000);

let stack: Stack;
let dir = "";

beforeAll(async () => {
  const PLUGINS_DIR = join(import.meta.dir, "../fixtures/plugins");
  stack = await startStack({ settings: { GPU_IDS: "0,1", MODELS: "gated-alone", PLUGINS_DIR } });
});
afterAll(() => stack.stop());
beforeEach(async () => {
  dir = await mkdtemp(join(stack.dataDir, "gates "));
});

/** Resolves when attempt `n` of the task has begun. */
const begun = (taskId: string, n: number): Promise<true> =>
  until(`attempt ${n} of ${taskId}`, 30_000, async () => {
    const text = await readFile(join(dir, `ran-${taskId}`), "utf8").catch(() => "");
    return text.split("\n").includes(String(n)) ? true : null;
  });

const open = (attempt: number): Promise<void> => writeFile(join(dir, `open-${attempt}`), "");

const objectsOf = async (taskId: string): Promise<string[]> =>
  (await readdir(join(stack.dataDir, "blobs"), { recursive: true })).filter(
    (name) => name.includes(taskId) && !name.endsWith(".json") && !name.includes("tmp"),
  );

interface Race {
  readonly taskId: string;
  /** Lets the first actor go on. */
  resume(): void;
}

function heldBy(gpu: string, taskId: string): HeldJob {
  const board = readBoard(join(stack.dataDir, "run", `actor-${gpu}.board`));
  const job = board.find(({ jobSubject }) => jobSubject.endsWith(taskId));
  if (!job) throw new Error("the job is not on the board of its actor");
  return job;
}

/** A task whose first actor is stopped in the middle of it, and whose second attempt has begun on the other one. */
async function twoAttempts(): Promise<Race> {
  const { task_id: taskId } = await stack.submit({ model: "gated-alone", input: { dir, gated_attempts: [1, 2] } });
  await begun(taskId, 1);
  const { actor } = (await stack.started(taskId)) as unknown as { actor: { gpu: string } };
  const job = heldBy(actor.gpu, taskId);
  const pid = await stack.pidOf(`actor-${actor.gpu}`);
  process.kill(pid, "SIGSTOP");
  nak(stack.bus, job.ackSubject); // as the end of its lease does, or a supervisor that takes it for dead
  await begun(taskId, 2);
  return { taskId, resume: () => process.kill(pid, "SIGCONT") };
}

test("the second attempt ends first: the first one, resumed, changes nothing and leaves nothing", async () => {
  const { taskId, resume } = await twoAttempts();
  await open(2);
  const task = await stack.ended(taskId);
  expect(task).toMatchObject({ status: "SUCCESS", attempt: 2, result: { attempt: 2 } });
  await open(1);
  const refused = stack.logged({ message: "another attempt had won", task_id: taskId });
  resume();
  expect(await refused).toMatchObject({ attempt: 1, won: false });
  await expectOneEnd(taskId, 2);
});

test("the first attempt, resumed, ends first: the second one changes nothing and leaves nothing", async () => {
  const { taskId, resume } = await twoAttempts();
  await open(1);
  resume();
  expect(await stack.ended(taskId)).toMatchObject({ status: "SUCCESS", attempt: 1, result: { attempt: 1 } });
  const refused = stack.logged({ message: "another attempt had won", task_id: taskId });
  await open(2);
  expect(await refused).toMatchObject({ attempt: 2, won: false });
  await expectOneEnd(taskId, 1);
});

test("a cancel while two attempts run: both stop, one CANCELLED, no object", async () => {
  const { taskId, resume } = await twoAttempts();
  expect((await stack.call("POST", `/v1/tasks/${taskId}/cancel`)).status).toBe(202);
  resume();
  expect(await stack.ended(taskId)).toMatchObject({ status: "CANCELLED" });
  await until("both actors are free", 20_000, async () =>
    ["0", "1"].every((gpu) => readBoard(join(stack.dataDir, "run", `actor-${gpu}.board`)).length === 0) ? true : null,
  );
  expect(tokensOf(await endsOf(stack.bus), taskId)).toEqual(["cancelling", "cancelled"]);
  expect(await objectsOf(taskId)).toEqual([]);
});

test("a job handed back by a third party while its actor runs is not begun twice", async () => {
  const { task_id: taskId } = await stack.submit({ model: "gated-alone", input: { dir, gated_attempts: [1] } });
  await begun(taskId, 1);
  const asked = Promise.withResolvers<void>();
  const subscription = stack.bus.subscribe(subjects.control(taskId), () => asked.resolve());
  const { actor } = (await stack.started(taskId)) as unknown as { actor: { gpu: string } };
  nak(stack.bus, heldBy(actor.gpu, taskId).ackSubject);
  await asked.promise; // the other actor has it in hand, sees that it was begun, and asks who has it
  subscription.unsubscribe();
  await open(1);
  expect(await stack.ended(taskId)).toMatchObject({ status: "SUCCESS", attempt: 1 });
  expect(await readFile(join(dir, `ran-${taskId}`), "utf8")).toBe("1\n");
  await expectOneEnd(taskId, 1);
});

/** One record in the log, and one object in the store: that of `attempt`, whole. */
async function expectOneEnd(taskId: string, attempt: number): Promise<void> {
  const ends = await endsOf(stack.bus);
  expect(tokensOf(ends, taskId)).toEqual(["success"]);
  const task = await stack.read(taskId);
  const { s3_key, sha256 } = task.result as { s3_key: string; sha256: string };
  const bytes = await folderBlobs(join(stack.dataDir, "blobs")).read(s3_key, 1_000);
  expect(Buffer.from(bytes).toString()).toBe(`${taskId} attempt ${attempt}`);
  expect(new Bun.CryptoHasher("sha256").update(bytes).digest("hex")).toBe(sha256);
  expect((await objectsOf(taskId)).length).toBe(1);
}
