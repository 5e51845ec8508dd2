// The words in which faults are asked for, and the rules that pick the requests they hit; without a server.
import { expect, test } from "bun:test";
import { FaultError, parseFault } from "./fault.ts";
import { createFaultRules, type FaultSubject, parseFaultRules } from "./fault-rules.ts";

test("a fault is its parts, with the values that they need", () => {
  expect(parseFault("status=429; retry_after=2")).toEqual({ status: 429, retry_after: 2 });
  expect(parseFault(" after=3;cut; ")).toEqual({ after: 3, cut: true });
  expect(parseFault("status=500;message=CUDA error = 2")).toEqual({ status: 500, message: "CUDA error = 2" });
  expect(parseFault("split;comments")).toEqual({ split: 7, comments: 1_000 });
});

test.each([
  "",
  ";",
  "after=3",
  "retry_after=1",
  "explode",
  "cut=1",
  "cut;cut",
  "status",
  "status=200",
  "status=4.5",
  "split=0",
  "refuse_ms=60001",
  "stall_ms=-1",
  "toString",
  "content_type=a\nb",
  "status=500;message=",
  "=1",
])("%j is no fault", (text) => {
  expect(() => parseFault(text)).toThrow(FaultError);
});

test("a fault has at most a thousand characters", () => {
  expect(() => parseFault(`status=500;message=${"x".repeat(1_000)}`)).toThrow(FaultError);
});

const subject = (change: Partial<Omit<FaultSubject, "text">> = {}, body: object = {}): FaultSubject => ({
  path: "/v1/chat/completions",
  posted: true,
  model: "a",
  text: () => JSON.stringify(body),
  ...change,
});

/** How often each of `count` requests is hit. */
const hits = (rules: unknown, count: number, subjects: FaultSubject[] = [subject()]): boolean[] => {
  const found = createFaultRules("seed");
  found.replace(parseFaultRules(rules));
  return Array.from({ length: count }, (_, at) => found.pick(subjects[at % subjects.length] ?? subject()) !== null);
};

test("a rule passes over the first ones it is told to, and hits as many as it is told to", () => {
  expect(hits([{ fault: "cut", skip: 1, times: 2 }], 5)).toEqual([false, true, true, false, false]);
  expect(
    hits(
      [
        { fault: "cut", times: 1 },
        { fault: "hang", times: 1 },
      ],
      3,
    ),
  ).toEqual([true, true, false]);
});

test("a rule hits what it names, and without a path nothing but work", () => {
  const byModel = [{ fault: "cut", match: { model: "b" } }];
  expect(hits(byModel, 2, [subject(), subject({ model: "b" })])).toEqual([false, true]);
  const text = [{ fault: "cut", match: { content: 'say "hi"' } }];
  expect(hits(text, 2, [subject({}, { x: "please say hi" }), subject({}, { x: 'please say "hi"' })])).toEqual([
    false,
    true,
  ]);
  const health = subject({ path: "/health", posted: false });
  expect(hits([{ fault: "cut" }], 2, [health, subject()])).toEqual([false, true]);
  expect(hits([{ fault: "status=503", match: { path: "/health" } }], 2, [health, subject()])).toEqual([true, false]);
});

test("a rate hits its share, and the same requests each time", () => {
  const rules = [{ fault: "cut", rate: 0.2 }];
  const first = hits(rules, 1_000);
  expect(hits(rules, 1_000)).toEqual(first);
  const count = first.filter(Boolean).length;
  expect(count).toBeGreaterThan(150);
  expect(count).toBeLessThan(250);
});

test.each([
  [{}],
  [[1]],
  [[{}]],
  [[{ fault: 1 }]],
  [[{ fault: "explode" }]],
  [[{ fault: "cut", rate: 2 }]],
  [[{ fault: "cut", times: -1 }]],
  [[{ fault: "cut", skip: 0.5 }]],
  [[{ fault: "cut", match: { model: 1 } }]],
  [[{ fault: "cut", match: { key: "x" } }]],
  [[{ fault: "cut", every: 2 }]],
])("%j are no rules", (rules) => {
  expect(() => parseFaultRules(rules)).toThrow(FaultError);
});
