import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { initial, isTerminal, statuses, step, type TaskState, type TaskTransition } from "./task.ts";

const attempt = fc.integer({ min: 1, max: 5 });
const status = fc.constantFrom("SUCCESS" as const, "FAILURE" as const, "CANCELLED" as const);
const unfinished: fc.Arbitrary<TaskTransition> = fc.oneof(
  fc.record({ kind: fc.constant("started" as const), attempt }),
  fc.record({ kind: fc.constant("retried" as const), attempt }),
);
const end: fc.Arbitrary<TaskTransition> = fc.record({ kind: fc.constant("ended" as const), status, attempt });
const event = fc.oneof({ weight: 4, arbitrary: unfinished }, { weight: 1, arbitrary: end });
const run = (events: readonly TaskTransition[], from: TaskState = initial): TaskState => events.reduce(step, from);

describe("step", () => {
  test("nothing leaves a final state", () => {
    fc.assert(
      fc.property(fc.array(event), end, fc.array(event), (before, last, after) => {
        const ended = run([...before, last]);
        expect(isTerminal(ended.status)).toBe(true);
        expect(run(after, ended)).toEqual(ended);
      }),
    );
  });

  test("a log applied twice gives what it gave once, event by event and as a whole", () => {
    fc.assert(
      fc.property(fc.array(event), (events) => {
        const doubled = events.flatMap((each) => [each, each]);
        expect(run(doubled)).toEqual(run(events));
        expect(run([...events, ...events])).toEqual(run(events));
      }),
    );
  });

  test("what comes late changes nothing: without an end, the order of events does not matter", () => {
    const shuffled = fc
      .array(unfinished, { maxLength: 12 })
      .chain((events) =>
        fc.tuple(
          fc.constant(events),
          fc.shuffledSubarray(events, { minLength: events.length, maxLength: events.length }),
        ),
      );
    fc.assert(fc.property(shuffled, ([events, other]) => expect(run(other)).toEqual(run(events))));
  });

  test("attempts never count down, and no event leads back to PENDING", () => {
    fc.assert(
      fc.property(fc.array(event), event, (before, next) => {
        const from = run(before);
        const to = step(from, next);
        expect(to.attempt).toBeGreaterThanOrEqual(from.attempt);
        expect(to.status).not.toBe("PENDING");
      }),
    );
  });

  test("follows the diagram", () => {
    const started1: TaskTransition = { kind: "started", attempt: 1 };
    const retried1: TaskTransition = { kind: "retried", attempt: 1 };
    const started2: TaskTransition = { kind: "started", attempt: 2 };
    const path = [started1, retried1, started2].map((_, i, all) => run(all.slice(0, i + 1)));
    expect(path).toEqual([
      { status: "STARTED", attempt: 1 },
      { status: "RETRY", attempt: 1 },
      { status: "STARTED", attempt: 2 },
    ]);
    for (const final of ["SUCCESS", "FAILURE", "CANCELLED"] as const) {
      expect(run([started1, { kind: "ended", status: final, attempt: 1 }])).toEqual({ status: final, attempt: 1 });
      expect(step(initial, { kind: "ended", status: final, attempt: 0 })).toEqual({ status: final, attempt: 0 });
    }
  });
});

test("three states are final", () => {
  expect(statuses.filter(isTerminal)).toEqual(["SUCCESS", "FAILURE", "CANCELLED"]);
});
