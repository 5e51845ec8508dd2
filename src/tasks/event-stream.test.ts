import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { codeOf } from "../../tests/code-of.ts";
import { owner, startGatewayTasks, type TestTasks } from "../../tests/gateway-tasks.ts";
import { readLast } from "../bus/log.ts";
import { streams, subjects } from "../bus/subjects.ts";
import type { TaskEvent } from "./tasks.ts";

let all: TestTasks;
const leaving: AbortController[] = [];
beforeAll(async () => {
  all = await startGatewayTasks({ partitions: 1, taskTtlMs: 3_600_000 });
});
afterEach(() => {
  for (const controller of leaving.splice(0)) controller.abort();
});
afterAll(() => all.stop());

const record = (attempt: number, n: number, event: string) =>
  JSON.stringify({ v: 1, attempt, n, crashes: 0, event, data: { attempt, n } });
/** Stored when this resolves. */
const publish = (taskId: string, attempt: number, n: number, event = "progress") =>
  all.bus.request(subjects.events(taskId), record(attempt, n, event), { timeoutMs: 5_000 });

async function open(taskId: string, lastEventId: string | null = null) {
  const controller = new AbortController();
  leaving.push(controller);
  const events = await all.tasks.events(taskId, owner, lastEventId, controller.signal);
  const iterator = events?.[Symbol.asyncIterator]();
  return { controller, events, next: async () => (await iterator?.next())?.value as TaskEvent | undefined };
}
async function read(taskId: string, lastEventId: string | null = null): Promise<string[]> {
  const { events } = await open(taskId, lastEventId);
  const heard: string[] = [];
  for await (const { id, event } of events ?? []) heard.push(`${id} ${event}`);
  return heard;
}

describe("the events of a task", () => {
  test("from the log and then live, in order and once, to the end", async () => {
    const { taskId } = await all.submit();
    await publish(taskId, 1, 1, "STARTED");
    const stream = await open(taskId);
    const heard: string[] = [];
    for (const next of ["0.0 PENDING", "1.1 STARTED"]) {
      const event = await stream.next();
      heard.push(`${event?.id} ${event?.event}`);
      expect(heard.at(-1)).toBe(next);
    }
    await publish(taskId, 1, 2);
    await publish(taskId, 1, 3, "RETRY");
    await publish(taskId, 2, 1, "STARTED");
    for (let i = 0; i < 3; i++) heard.push((await stream.next())?.id ?? "");
    await all.end(taskId, { eventId: "2.2" });
    const last = await stream.next();
    expect(last).toMatchObject({ id: "2.2", event: "SUCCESS" });
    expect(JSON.parse(last?.data ?? "")).toMatchObject({ task_id: taskId, status: "SUCCESS" });
    expect(heard).toEqual(["0.0 PENDING", "1.1 STARTED", "1.2", "1.3", "2.1"]);
    expect(await stream.next()).toBeUndefined();
  });

  test("resumes anywhere, with nothing twice and nothing left out", async () => {
    const { taskId } = await all.submit();
    const ids = [...Array.from({ length: 300 }, (_, i) => `1.${i + 1}`), "2.1", "2.2"];
    for (const id of ids) {
      const [attempt = 0, n = 0] = id.split(".").map(Number);
      await publish(taskId, attempt, n);
    }
    await all.end(taskId, { eventId: "2.3" });
    const whole = [...ids.map((id) => `${id} progress`), "2.3 SUCCESS"];
    expect(await read(taskId)).toEqual(["0.0 PENDING", ...whole]);
    expect(await read(taskId, "0.0")).toEqual(whole);
    for (const from of [0, 150, 299, 300, 301])
      expect(await read(taskId, ids[from] ?? "")).toEqual(whole.slice(from + 1));
  });

  /** Events 1.1 to 1.`count`, stored when this resolves. */
  async function publishMany(taskId: string, count: number): Promise<void> {
    for (let n = 1; n < count; n++) all.bus.publish(subjects.events(taskId), record(1, n, "delta"));
    await publish(taskId, 1, count, "delta");
  }

  test("more than is read at once comes whole, and what is lost of it is told", async () => {
    const { taskId } = await all.submit();
    await publishMany(taskId, 2_500);
    const from = async (last: string): Promise<string[]> => {
      const { next } = await open(taskId, last);
      const ids = [];
      do ids.push((await next())?.id ?? "");
      while (ids.at(-1) !== "1.2500");
      return ids;
    };
    const ids = Array.from({ length: 2_500 }, (_, i) => `1.${i + 1}`);
    expect(await from("0.0")).toEqual(ids);
    expect(await from("1.1700")).toEqual(ids.slice(1_700));
    const last = await readLast(all.bus, streams.events, subjects.events(taskId), 1_000);
    const lost = JSON.stringify({ seq: (last?.sequence ?? 0) - 1_000 }); // 1.1500
    await all.bus.request(`$JS.API.STREAM.MSG.DELETE.${streams.events}`, lost, { timeoutMs: 1_000 });
    expect(await from("1.1700")).toEqual(ids.slice(1_700));
    const seen = await from("0.0");
    expect(seen.length).toBeWithin(2, 1_500); // up to the hole, or a page before it; then the reset
    expect(seen.slice(0, -1)).toEqual(ids.slice(0, seen.length - 1));
  });

  test("a client that is slow for a while misses nothing, also where the next attempt goes on", async () => {
    const { taskId } = await all.submit();
    const { next } = await open(taskId);
    for (const event of ["PENDING", "progress"]) {
      if (event === "progress") await publish(taskId, 1, 1);
      expect((await next())?.event).toBe(event);
    }
    for (let n = 2; n < 1_200; n++) all.bus.publish(subjects.events(taskId), record(1, n, "delta"));
    await publish(taskId, 1, 1_200, "delta");
    for (let n = 2; n <= 1_200; n++) expect((await next())?.id).toBe(`1.${n}`);
    await publish(taskId, 2, 1, "STARTED");
    expect(await next()).toMatchObject({ id: "2.1", event: "STARTED" });
  });

  test("after the end there is nothing more: null", async () => {
    const { taskId } = await all.submit();
    await all.end(taskId, { eventId: "1.2" });
    for (const last of ["1.2", "1.3", "2.0"]) expect((await open(taskId, last)).events).toBeNull();
    expect(await read(taskId, "0.0")).toEqual(["1.2 SUCCESS"]);
  });

  test("the first event is the same before the end and after", async () => {
    const { taskId: repeated } = await all.submit();
    const { taskId } = await all.tasks.accept({ model: "echo", input: {}, retry_of: repeated }, owner, null);
    const before = await (await open(taskId)).next();
    expect(JSON.parse(before?.data ?? "")).toMatchObject({ status: "PENDING", retry_of: repeated });
    await all.tasks.cancel(taskId, owner);
    const after = await (await open(taskId)).next();
    expect(JSON.parse(after?.data ?? "")).toEqual(JSON.parse(before?.data ?? ""));
  });

  test("events that are lost are told by a reset with the task as it is", async () => {
    const { taskId } = await all.submit();
    await publish(taskId, 1, 5);
    const stream = await open(taskId, "1.2");
    const reset = await stream.next();
    expect(reset).toMatchObject({ id: "1.5", event: "reset" });
    expect(JSON.parse(reset?.data ?? "")).toMatchObject({ task_id: taskId });
    await publish(taskId, 1, 6);
    expect(await stream.next()).toMatchObject({ id: "1.6", event: "progress" });
  });

  test("events that are lost in the middle of the log are told by a reset", async () => {
    const { taskId } = await all.submit();
    for (const n of [1, 2, 4, 5]) await publish(taskId, 1, n);
    const stream = await open(taskId, "1.1");
    expect(await stream.next()).toMatchObject({ id: "1.5", event: "reset" });
  });

  test("a client who has more than the log is not sent on into the next attempt", async () => {
    const { taskId } = await all.submit();
    for (const n of [1, 2]) await publish(taskId, 1, n);
    await publish(taskId, 2, 1, "STARTED");
    expect(await (await open(taskId, "1.2")).next()).toMatchObject({ id: "2.1", event: "STARTED" });
    // 1.3 went to this client, and then the broker lost it: the next attempt goes on from 1.2.
    expect(await (await open(taskId, "1.3")).next()).toMatchObject({ id: "2.1", event: "reset" });
  });

  test("nor one who listens while it happens", async () => {
    const { taskId } = await all.submit();
    await publish(taskId, 1, 1, "STARTED");
    const [whole, more] = [await open(taskId), await open(taskId)];
    for (const stream of [whole, more]) for (let i = 0; i < 2; i++) await stream.next();
    await publish(taskId, 1, 2);
    for (const stream of [whole, more]) expect((await stream.next())?.id).toBe("1.2");
    await publish(taskId, 2, 1, "STARTED");
    expect(await whole.next()).toMatchObject({ id: "2.1", event: "STARTED" });
    const newest = await readLast(all.bus, streams.events, subjects.events(taskId), 1_000);
    const lost = JSON.stringify({ seq: (newest?.sequence ?? 0) - 1 });
    await all.bus.request(`$JS.API.STREAM.MSG.DELETE.${streams.events}`, lost, { timeoutMs: 1_000 });
    expect(await more.next()).toMatchObject({ id: "2.1", event: "reset" });
  });

  test("a log that lost its end goes on to be followed from where it is", async () => {
    const { taskId } = await all.submit();
    for (const n of [1, 2]) await publish(taskId, 1, n);
    const stream = await open(taskId, "1.9");
    expect(await stream.next()).toMatchObject({ id: "1.2", event: "reset" });
    await publish(taskId, 1, 3);
    expect((await stream.next())?.id).toBe("1.3");
  });

  test("an event of an unknown form is left out, and the end still comes", async () => {
    const { taskId } = await all.submit();
    const stream = await open(taskId);
    expect((await stream.next())?.event).toBe("PENDING");
    await all.bus.request(subjects.events(taskId), "not json", { timeoutMs: 5_000 });
    await all.bus.request(subjects.events(taskId), '{"v":9}', { timeoutMs: 5_000 });
    expect((await all.tasks.read(taskId, owner)).status).toBe("PENDING");
    await publish(taskId, 1, 1, "STARTED");
    expect((await stream.next())?.id).toBe("1.1");
    await all.end(taskId, { eventId: "1.2" });
    expect((await stream.next())?.event).toBe("SUCCESS");
    expect(await read(taskId)).toEqual(["0.0 PENDING", "1.1 STARTED", "1.2 SUCCESS"]);
  });

  test("a task of another key does not exist", async () => {
    const { taskId } = await all.submit();
    const call = all.tasks.events(taskId, { keyId: "other" }, null, new AbortController().signal);
    expect(await codeOf(call)).toBe("task_not_found");
  });

  test("who leaves costs nothing more, at whatever moment: no subscription is left", async () => {
    const { taskId } = await all.submit();
    const before = await all.subscriptions();
    const never = await open(taskId); // its first event is never asked for
    const early = await open(taskId);
    await early.next();
    const late = await open(taskId);
    await late.next();
    expect(await all.subscriptions()).toBe(before + 3);
    const waiting = late.next();
    for (const { controller } of [never, late, early]) controller.abort();
    expect(await waiting).toBeUndefined();
    expect(await all.subscriptions()).toBe(before);
    expect(await early.next()).toBeUndefined();
    await codeOf(all.tasks.events(taskId, { keyId: "other" }, null, new AbortController().signal));
    expect(await all.subscriptions()).toBe(before);
  });
});
