// Tasks as text: whatever a model, a plugin or a client wrote, no control character reaches the terminal.
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  listText,
  noProgress,
  plain,
  plainJson,
  progressAfter,
  progressText,
  type ShownTask,
  taskText,
} from "./terminal.ts";

const task: ShownTask = {
  task_id: "01arz3ndektsv4rrffq69g5fav",
  status: "FAILURE",
  model: "echo",
  priority: "high",
  attempt: 2,
  actor: { id: "a", gpu: "0" },
  timing: { queue_ms: 3.2, total_ms: 12_345 },
  error: { code: "runner_failed", message: "no\nroom", stage: "infer" },
  created_at: "2026-11-21T10:00:00.000Z",
  metadata: { order: "4711" },
};

test("a task says what happened, line by line", () => {
  expect(taskText(task).split("\n")).toEqual([
    "01arz3ndektsv4rrffq69g5fav  FAILURE",
    "  model     echo, high",
    "  created   2026-11-21T10:00:00.000Z",
    "  attempt   2 on a, GPU 0",
    "  time      queue 3 ms, total 12.3 s",
    "  error     runner_failed in infer: no room",
    "  metadata  order=4711",
    "",
  ]);
});

test("a list has a head, columns, and says where it goes on", () => {
  const lines = listText([task, { ...task, status: "PENDING", timing: null }], "abc").split("\n");
  expect(lines).toHaveLength(6);
  expect(lines[0]).toStartWith("task_id ");
  expect(lines[1]).toEndWith("2026-11-21T10:00:00.000Z  12.3 s");
  expect(lines[2]).toContain("  PENDING  echo ");
  expect(lines[4]).toBe("more: --cursor abc");
  expect(listText([], null)).toBe("no tasks\n");
});

/** Characters that steer a terminal: escapes, other C0 and C1, and those that turn the direction of text. */
const steering = /[\p{Cc}\p{Cf}\u2028\u2029]/u;
const hostile = fc.string({
  unit: fc.constantFrom("a", "\x1b", "[2J", "\x9b", "\x07", "\r", "\n", "\u202e", "\u{e0001}", "世", '"', "\\"),
});

test("nothing that steers a terminal gets through", () => {
  fc.assert(
    fc.property(hostile, (text) => {
      expect(plain(text)).not.toMatch(steering);
      const json = plainJson(JSON.stringify({ text }));
      expect(json).not.toMatch(steering);
      expect(JSON.parse(json)).toEqual({ text });
      const shown = taskText({ ...task, model: text, result: { text }, metadata: { [text]: text } });
      expect(shown.replaceAll("\n", "")).not.toMatch(steering);
      const row = listText([{ ...task, model: text }], text);
      expect(row.replaceAll("\n", "")).not.toMatch(steering);
      const line = progressText("id", { status: "STARTED", attempt: 1, fraction: 0.5, message: text }, 0, 40);
      expect(line).not.toMatch(steering);
      expect(Bun.stringWidth(line)).toBeLessThan(40);
    }),
  );
});

test("the line follows the events, and an odd one changes nothing", () => {
  const started = progressAfter(noProgress, { id: "2.1", event: "STARTED", data: '{"attempt":2}' });
  const halfway = progressAfter(started, { id: "2.2", event: "progress", data: '{"fraction":0.5,"message":"half"}' });
  expect(progressText("id", halfway, 1_234, 120)).toBe(
    `id  STARTED (attempt 2)  ${"█".repeat(10)}${"░".repeat(10)}  50%  half  1.2 s`,
  );
  expect(progressAfter(halfway, { id: "2.3", event: "delta", data: "not JSON" })).toEqual(halfway);
  expect(progressAfter(halfway, { id: "2.3", event: "progress", data: "[]" })).toMatchObject({ fraction: null });
  expect(progressAfter(halfway, { id: "2.3", event: "RETRY", data: "{}" })).toMatchObject({
    status: "RETRY",
    message: "",
  });
  const reset = { id: "3.9", event: "reset", data: '{"status":"STARTED","attempt":3}' };
  expect(progressAfter(halfway, reset)).toEqual({ status: "STARTED", attempt: 3, fraction: null, message: "" });
});
