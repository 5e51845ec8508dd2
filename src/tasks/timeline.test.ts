import { expect, test } from "bun:test";
import type { LogRecord } from "../bus/log.ts";
import { rfc3339 } from "../clock.ts";
import type { Reading } from "./reader.ts";
import type { EventRecord } from "./records.ts";
import { timelineOf } from "./timeline.ts";

const taskId = "01arz3ndektsv4rrffq69g5fav";
const createdMs = Date.parse("2026-11-21T10:00:00.000Z");
const actor = { id: "a", gpu: "0" };

let sequence = 0;
const event = (atMs: number, fields: Partial<EventRecord>): LogRecord => ({
  subject: "millrace.events.t",
  sequence: ++sequence,
  text: JSON.stringify({ v: 1, attempt: 1, n: 1, crashes: 0, event: "log", data: {}, ...fields }),
  storedAtMs: createdMs + atMs,
});
const started = (atMs: number, attempt: number, n = 1): LogRecord =>
  event(atMs, { attempt, n, event: "STARTED", data: { actor, started_at: rfc3339(createdMs + atMs) } });

const ended = (attempt: number, eventId: string): Reading => ({
  kind: "ended",
  ended: {
    keyId: "k",
    status: "SUCCESS",
    eventId,
    endedAtMs: createdMs + 900,
    dataJson: JSON.stringify({
      task_id: taskId,
      status: "SUCCESS",
      attempt,
      actor,
      timing: { queue_ms: 500, infer_ms: 300 },
      created_at: rfc3339(createdMs),
      started_at: rfc3339(createdMs + 500),
      finished_at: rfc3339(createdMs + 900),
    }),
  },
});
const named = (reading: Reading, stored: readonly LogRecord[]) => {
  const { entries, complete } = timelineOf(taskId, reading, stored);
  return { complete, names: entries.map((entry) => `${entry.event} ${entry.attempt ?? ""}`.trim()) };
};

test("attempts that were handed back, and what an attempt sent in one entry", () => {
  const stored = [
    started(10, 1),
    event(20, { n: 2, uncounted: true }),
    started(500, 1, 3),
    event(600, { n: 4, event: "progress", data: { fraction: 0.5 } }),
    event(700, { n: 5, event: "delta", data: { text: "x" } }),
    event(800, { n: 6, event: "progress", data: { fraction: 1 } }),
  ];
  const timeline = timelineOf(taskId, ended(1, "1.7"), stored);
  expect(timeline.complete).toBe(true);
  expect(timeline.entries.map((entry) => entry.event)).toEqual([
    "queued",
    "started",
    "handed_back",
    "started",
    "output",
    "ended",
  ]);
  expect(timeline.entries[4]).toEqual({
    at: rfc3339(createdMs + 800),
    event: "output",
    attempt: 1,
    progress: { fraction: 1 },
    progress_events: 2,
    delta_events: 1,
  });
});

test("without its events a task still has its start and its end", () => {
  expect(named(ended(2, "2.2"), [])).toEqual({ complete: false, names: ["queued", "started 2", "ended 2"] });
});

test("a gap is said; events of an earlier task of the same id are not this one's", () => {
  expect(named(ended(2, "2.2"), [started(10, 1), started(500, 2)])).toEqual({
    complete: true,
    names: ["queued", "started 1", "started 2", "ended 2"],
  });
  expect(named(ended(2, "2.2"), [started(500, 2)]).complete).toBe(false);
  expect(named(ended(1, "1.3"), [started(500, 1)]).complete).toBe(false);
  expect(named(ended(1, "1.2"), [started(-60_000, 1), started(500, 1)])).toEqual({
    complete: true,
    names: ["queued", "started 1", "ended 1"],
  });
});

test("an event of a form that is not known is left out", () => {
  const odd = { ...started(10, 1), text: '{"v":2}' };
  expect(named(ended(1, "1.2"), [odd, started(500, 1)]).names).toEqual(["queued", "started 1", "ended 1"]);
});
