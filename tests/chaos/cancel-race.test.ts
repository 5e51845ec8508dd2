// A cancel and the end of its task meet, two hundred times: whichever the log took first is what everybody says, for
// ever. A failure prints the seed of its delays (SEED=… repeats them, as far as a race can be repeated).
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomNumbers } from "../random-numbers.ts";
import { type Stack, startStack } from "../stack.ts";
import { endsOf, tokensOf } from "./records.ts";

setDefaultTimeout(60_000);

const RACES = 200;
const AT_ONCE = 10;

let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ settings: { GPU_IDS: "0,1", MODELS: "echo" } });
});
afterAll(() => stack.stop());

test("a cancel raced with completion: one end, and the answer agrees with it", async () => {
  const { seed, below } = randomNumbers();
  const races: { readonly taskId: string; readonly answer: number; readonly code: unknown }[] = [];
  let begun = 0;
  /** Follows the answers, so that both sides win about as often on any machine: milliseconds that a task gets. */
  let headStart = 0;
  const racer = async (): Promise<void> => {
    while (begun++ < RACES) {
      const { task_id: taskId } = await stack.submit({ model: "echo", input: { sleep_ms: headStart + below(6) } });
      if (headStart === 0 && below(2) === 0) await stack.read(taskId); // a round trip more for the task
      const response = await stack.call("POST", `/v1/tasks/${taskId}/cancel`);
      headStart = response.status === 409 ? headStart + 1 : Math.max(0, headStart - 1);
      races.push({ taskId, answer: response.status, code: ((await response.json()) as { code?: string }).code });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, racer));
  const tasks = await Promise.all(races.map(({ taskId }) => stack.ended(taskId)));
  const ends = await endsOf(stack.bus);

  const wrong = races.flatMap(({ taskId, answer, code }, index) => {
    const status = tasks[index]?.status;
    const log = tokensOf(ends, taskId).join(" ");
    const cancelled = answer === 202 && status === "CANCELLED" && log === "cancelling cancelled";
    const tooLate = answer === 409 && code === "task_finished" && status === "SUCCESS" && log === "success";
    return cancelled || tooLate ? [] : [{ taskId, answer, code, status, log }];
  });
  expect({ seed, wrong }).toEqual({ seed, wrong: [] });
  const lost = races.filter(({ answer }) => answer === 409).length;
  // Otherwise it was no race.
  expect(lost).toBeGreaterThan(5);
  expect(lost).toBeLessThan(RACES - 5);
});

test("cancels of one task by many clients at once: all are told the same", async () => {
  const { task_id: taskId } = await stack.submit({ model: "echo", input: { sleep_ms: 600_000 } });
  await stack.started(taskId);
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => stack.call("POST", `/v1/tasks/${taskId}/cancel`).then(async (r) => r.status)),
  );
  // Who comes after the end is told that there is nothing left to cancel.
  expect(answers.filter((status) => status !== 202 && status !== 409)).toEqual([]);
  expect(answers).toContain(202);
  expect(await stack.ended(taskId)).toMatchObject({ status: "CANCELLED" });
  expect(tokensOf(await endsOf(stack.bus), taskId)).toEqual(["cancelling", "cancelled"]);
});
