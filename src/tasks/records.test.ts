import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { terminalTokens } from "../bus/subjects.ts";
import { randomTaskId } from "../ids.ts";
import {
  type JobRecord,
  parseEventRecord,
  parseJobRecord,
  parseResultRecord,
  type ResultEnvelope,
  resultRecord,
  statusOf,
} from "./records.ts";

const taskId = fc.nat({ max: 2 ** 48 - 1 }).map(randomTaskId);
const plain: fc.Arbitrary<ResultEnvelope> = fc.record({
  token: fc.constantFrom(...terminalTokens, "cancelling" as const),
  taskId,
  keyId: fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/),
  fence: fc.stringMatching(/^[0-9a-f]{20}$/),
  eventId: fc.tuple(fc.nat(), fc.nat()).map(([attempt, n]) => `${attempt}.${n}`),
  timeMs: fc.integer({ min: 0, max: 4_102_444_800_000 }),
});
const envelope = fc.oneof(
  plain,
  plain.map((head) => ({ ...head, callback: true as const })),
);
/** Among them texts that look like the end or the middle of the envelope itself. */
const dataJson = fc
  .oneof(
    fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ stringUnit: "binary" })),
    fc.constantFrom(
      { data: { data: '","data":{}}' } },
      { specversion: "1.0", type: "task.success" },
      { "}": '"}' },
      {},
    ),
  )
  .map((value) => JSON.stringify(value));

describe("result records", () => {
  test("whatever the data, it comes back to the letter", () => {
    fc.assert(
      fc.property(envelope, dataJson, (head, data) => {
        const text = resultRecord(head, data);
        expect(parseResultRecord(text)).toEqual({ ...head, dataJson: data });
        expect(parseResultRecord(Buffer.from(text).toString())).toEqual({ ...head, dataJson: data });
      }),
    );
  });

  test("a record is a CloudEvent that any JSON reader reads", () => {
    fc.assert(
      fc.property(envelope, dataJson, (head, data) => {
        const event = JSON.parse(resultRecord(head, data));
        expect(event).toMatchObject({ specversion: "1.0", source: "/millrace", type: `task.${head.token}` });
        expect(event.subject).toBe(head.taskId);
        expect(Date.parse(event.time)).toBe(head.timeMs);
        expect(event.data).toEqual(JSON.parse(data));
        // CloudEvents: names of attributes are lower-case letters and digits, ids are unique within a source.
        expect(Object.keys(event).every((name) => /^[a-z0-9]+$/.test(name))).toBe(true);
        expect(event.id === event.subject).toBe(head.token !== "cancelling");
      }),
    );
  });

  const good = resultRecord(
    { token: "success", taskId: "01arz3ndektsv4rrffq69g5fav", keyId: "k", fence: "f", eventId: "1.2", timeMs: 0 },
    "{}",
  );
  test.each([
    ["nothing", ""],
    ["no JSON", "hello"],
    ["another version", good.replace('"1.0"', '"2.0"')],
    ["a kind that nobody knows", good.replace("task.success", "task.exploded")],
    ["a time that is none", good.replace(/"time":"[^"]*"/, '"time":"soon"')],
    ["a record with something before it", ` ${good}`],
    ["one that was cut off", good.slice(0, -1)],
    ["one that was cut off before its data", good.slice(0, -3)],
  ])("%s is refused", (_, text) => {
    expect(() => parseResultRecord(text)).toThrow(/form that this version does not know/);
  });

  test("a cancel marker ends nothing", () => {
    expect(terminalTokens.map(statusOf)).toEqual(["SUCCESS", "FAILURE", "CANCELLED"]);
    expect(statusOf("cancelling")).toBeNull();
  });
});

describe("jobs and events", () => {
  const job: JobRecord = {
    v: 1,
    id: "01arz3ndektsv4rrffq69g5fav",
    key: "k",
    hash: "",
    nonce: "n",
    created: 1,
    trace: "",
    model: "echo",
    priority: "normal",
    metadata: {},
  };
  const event = { v: 1, attempt: 1, n: 2, crashes: 0, event: "STARTED", data: {} };

  test("come back as they were", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "binary" }), (value) => {
        const input = JSON.parse(JSON.stringify(value));
        expect(parseJobRecord(JSON.stringify({ ...job, input }))).toEqual({ ...job, input });
        expect(parseEventRecord(JSON.stringify({ ...event, data: input })) as object).toEqual({
          ...event,
          data: input,
        });
      }),
    );
  });

  test.each([
    ["no JSON", "{"],
    ["null", "null"],
    ["a number", "1"],
    ["a later version", JSON.stringify({ ...job, ...event, v: 2 })],
    ["no version", JSON.stringify({ ...job, ...event, v: undefined })],
    ["other types", JSON.stringify({ ...job, ...event, id: 1, attempt: "1" })],
    ["missing fields", '{"v":1}'],
  ])("%s is refused", (_, text) => {
    expect(() => parseJobRecord(text)).toThrow(/does not know/);
    expect(() => parseEventRecord(text)).toThrow(/does not know/);
  });
});
