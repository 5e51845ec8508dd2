import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { randomTaskId } from "../ids.ts";
import {
  bucketSubject,
  consumerName,
  levels,
  parseConsumerName,
  parseControl,
  parseDelivery,
  parseJob,
  parseLater,
  parseResult,
  type QueueAddress,
  subjects,
  terminalTokens,
  token,
  untoken,
} from "./subjects.ts";

const name = fc.oneof(
  fc.string({ unit: "binary", minLength: 1, maxLength: 40 }),
  fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,63}$/),
  fc.constantFrom(".", "*", ">", "a.b", "a b", "=2E", "=", "\0", "é", "模型", "🚂", "a\nb"),
);
const taskId = fc.nat({ max: 2 ** 48 - 1 }).map(randomTaskId);
const address: fc.Arbitrary<QueueAddress> = fc.record({
  partition: fc.integer({ min: 0, max: 63 }),
  level: fc.constantFrom(...levels),
  lane: fc.constantFrom("a" as const, "b" as const),
  model: name,
});

describe("token", () => {
  test("holds nothing that means something in a subject, and comes back", () => {
    fc.assert(
      fc.property(name, (text) => {
        expect(token(text)).toMatch(/^[A-Za-z0-9_=-]+$/);
        expect(untoken(token(text))).toBe(text);
      }),
    );
  });

  test("different names have different tokens", () => {
    fc.assert(fc.property(name, name, (a, b) => expect(token(a) === token(b)).toBe(a === b)));
  });

  test("untoken answers null for what no name encodes to", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9_=.*> -]{0,12}$/), (text) => {
        const decoded = untoken(text);
        if (decoded !== null) expect(token(decoded)).toBe(text);
      }),
    );
    for (const text of ["", "=", "=4", "=2e", "=41", "a.b", "a b", "*", ">", "=FF", "=C3", "é", "a\n"]) {
      expect({ text, name: untoken(text) }).toEqual({ text, name: null });
    }
  });
});

describe("subjects", () => {
  const filterMatches = (filter: string, subject: string): boolean => {
    const parts = subject.split(".");
    const wanted = filter.split(".");
    return wanted.length === parts.length && wanted.every((part, i) => part === "*" || part === parts[i]);
  };

  test("a job's subject tells where it is, and its filters cover it", () => {
    fc.assert(
      fc.property(address, taskId, taskId, (at, id, other) => {
        const subject = subjects.job(at, id);
        expect(parseJob(subject)).toEqual({ ...at, taskId: id });
        expect(filterMatches(subjects.anyJob(at.partition, id), subject)).toBe(true);
        expect(filterMatches(subjects.queue(at), subject)).toBe(true);
        expect(filterMatches(subjects.anyJob(at.partition, other), subject)).toBe(id === other);
        expect(parseResult(subject)).toBeNull();
      }),
    );
  });

  test("a job that waits is in no queue, and the filter of its task covers it", () => {
    fc.assert(
      fc.property(address, taskId, ({ level, ...at }, id) => {
        const subject = subjects.later(at, id);
        expect(parseLater(subject)).toEqual({ ...at, taskId: id });
        expect(parseJob(subject)).toBeNull();
        expect(filterMatches(subjects.anyJob(at.partition, id), subject)).toBe(true);
        for (const each of levels) expect(filterMatches(subjects.queue({ ...at, level: each }), subject)).toBe(false);
        expect(parseLater(subjects.job({ ...at, level }, id))).toBeNull();
      }),
    );
  });

  test("a result's subject tells how which task ended, and its filter covers it", () => {
    const status = fc.constantFrom(...terminalTokens, "cancelling" as const);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 63 }), name, status, taskId, (partition, model, token, id) => {
        const subject = subjects.result(partition, model, token, id);
        expect(parseResult(subject)).toEqual({ partition, model, status: token, taskId: id });
        expect(filterMatches(subjects.anyResult(partition, id), subject)).toBe(true);
        expect(parseJob(subject)).toBeNull();
      }),
    );
  });

  test("two queues never share a consumer or a subject", () => {
    fc.assert(
      fc.property(address, address, (a, b) => {
        expect(parseConsumerName(a.partition, consumerName(a))).toEqual(a);
        const same = a.level === b.level && a.lane === b.lane && a.model === b.model;
        expect(consumerName(a) === consumerName(b)).toBe(same);
        expect(subjects.queue(a) === subjects.queue(b)).toBe(same && a.partition === b.partition);
      }),
    );
  });

  test("a key of a bucket is one token", () => {
    fc.assert(fc.property(name, (key) => expect(bucketSubject("models", key).split(".")).toHaveLength(3)));
  });

  test.each([
    "",
    "millrace.jobs.0.high.a.echo",
    "millrace.jobs.0.later.c.echo.01arz3ndektsv4rrffq69g5fav",
    "millrace.jobs.0.later.a.ec=ho.01arz3ndektsv4rrffq69g5fav",
    "millrace.jobs.0.high.c.echo.01arz3ndektsv4rrffq69g5fav",
    "millrace.jobs.x.high.a.echo.01arz3ndektsv4rrffq69g5fav",
    "millrace.jobs.0.high.a.ec=ho.01arz3ndektsv4rrffq69g5fav",
    "millrace.jobs.0.high.a.echo.01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "millrace.jobs.0.high.a.echo.01arz3ndektsv4rrffq69g5fav.more",
    "millrace.results.0.echo.started.01arz3ndektsv4rrffq69g5fav",
    "millrace.results.0.echo.success.01arz3ndektsv4rrffq69g5fav.more",
    "evil.millrace.results.0.echo.success.01arz3ndektsv4rrffq69g5fav",
  ])("%p is neither job nor result", (subject) => {
    expect([parseJob(subject), parseLater(subject), parseResult(subject)]).toEqual([null, null, null]);
  });

  test("a control subject names its task, and nothing else is one", () => {
    const id = "01arz3ndektsv4rrffq69g5fav";
    expect(parseControl(subjects.control(id))).toBe(id);
    for (const other of ["millrace.control.*", "millrace.control.", `millrace.control.${id}.x`, `x.${id}`]) {
      expect(parseControl(other)).toBeNull();
    }
  });
});

describe("parseDelivery", () => {
  const numbers = fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat(), fc.nat());

  test("reads both forms of ack subjects alike", () => {
    fc.assert(
      fc.property(address, numbers, (at, [delivered, streamSequence, consumerSequence, time, pending]) => {
        const consumer = consumerName(at);
        const tail = `JOBS_3.${consumer}.${delivered}.${streamSequence}.${consumerSequence}.${time}.${pending}`;
        const storedAtMs = time / 1_000_000;
        const expected = {
          stream: "JOBS_3",
          consumer,
          delivered,
          streamSequence,
          consumerSequence,
          storedAtMs,
          pending,
        };
        expect(parseDelivery(`$JS.ACK.${tail}`)).toEqual(expected);
        expect(parseDelivery(`$JS.ACK._.ACCOUNT.${tail}`)).toEqual(expected);
        expect(parseDelivery(`$JS.ACK.hub.ACCOUNT.${tail}.random`)).toEqual(expected);
      }),
    );
  });

  test.each(["", "_INBOX.a.b", "$JS.ACK.JOBS_0.c.1.2.3.4", "$JS.FC.JOBS_0.c.1.2.3.4.5"])("%p is no ack", (subject) => {
    expect(parseDelivery(subject)).toBeNull();
  });
});
