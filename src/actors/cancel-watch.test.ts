import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { append } from "../bus/log.ts";
import { subjects } from "../bus/subjects.ts";
import { randomTaskId } from "../ids.ts";
import { silentLog } from "../log.ts";
import { askHolders, control } from "../tasks/holders.ts";
import { parseControlRequest, watchCancels } from "./cancel-watch.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker({ partitions: 2 });
});
afterAll(() => broker.stop());

const freshId = (): string => randomTaskId(Date.now());

async function publishJob(partition: number): Promise<number> {
  const id = freshId();
  const at = { partition, level: "normal", lane: "a", model: "echo" } as const;
  const filter = subjects.anyJob(partition, id);
  const record = { subject: subjects.job(at, id), filter, payload: "{}", expectedSequence: 0, timeoutMs: 5_000 };
  const outcome = await append(broker.bus, record);
  return outcome.kind === "stored" ? outcome.sequence : 0;
}

async function watch(actorId: string, holds: readonly string[] = []) {
  const stopped: [string, number][] = [];
  const watching = await watchCancels(await broker.connect(), {
    partitions: 2,
    actorId,
    log: silentLog,
    onCancel: (taskId, sequence) => {
      stopped.push([taskId, sequence]);
      return holds.includes(taskId);
    },
    onAsk: (taskId) => holds.includes(taskId),
  });
  return { ...watching, stopped };
}
const ask = (taskId: string, cancel: number | null, expected: number) =>
  control(broker.bus, taskId, { cancel, from: "gateway" }, expected);

describe("watchCancels", () => {
  test("jobs from before it listened are looked up, later ones are not, each partition for itself", async () => {
    const before = [await publishJob(0), await publishJob(0), await publishJob(1)];
    const actor = await watch("a");
    const after = [await publishJob(0), await publishJob(1)];
    expect(before.map((sequence, i) => actor.mustLook(i < 2 ? 0 : 1, sequence, freshId()))).toEqual([true, true, true]);
    expect(after.map((sequence, p) => actor.mustLook(p, sequence, freshId()))).toEqual([false, false]);
    expect(actor.mustLook(7, 1, freshId())).toBe(true); // a partition that it does not know
    actor.stop();
  });

  test("a cancel stops the task where it is held, is answered, and is remembered", async () => {
    const [held, free] = [freshId(), freshId()];
    const actor = await watch("a", [held]);
    const sequence = await publishJob(0);
    expect(await ask(held, 41, 1)).toEqual({ held: 1, free: 0 });
    expect(await ask(free, 42, 1)).toEqual({ held: 0, free: 1 });
    expect(actor.stopped).toEqual([
      [held, 41],
      [free, 42],
    ]);
    expect([held, free, freshId()].map((id) => actor.mustLook(0, sequence, id))).toEqual([true, true, false]);
    actor.stop();
  });

  test("a question stops nothing; an actor does not answer itself", async () => {
    const held = freshId();
    const actor = await watch("a", [held]);
    expect(await ask(held, null, 1)).toEqual({ held: 1, free: 0 });
    expect(await askHolders(broker.bus, held, "b")).toBe(1);
    expect(await askHolders(broker.bus, held, "a")).toBe(0);
    expect(actor.stopped).toEqual([]);
    actor.stop();
  });

  test("all actors are asked: one that holds it is enough, all must say that they do not", async () => {
    const held = freshId();
    const actors = await Promise.all([watch("a"), watch("b", [held]), watch("c")]);
    expect((await ask(held, 5, 3)).held).toBe(1);
    expect(await ask(freshId(), 5, 3)).toEqual({ held: 0, free: 3 });
    actors[0]?.stop();
    // One that is silent has not said "free".
    expect(await ask(freshId(), 5, 3)).toEqual({ held: 0, free: 2 });
    for (const actor of actors) actor.stop();
    expect(await ask(freshId(), 5, 3)).toEqual({ held: 0, free: 0 });
  });

  test("after a lost connection everything up to then is looked up again: a cancel may have been missed", async () => {
    const actor = await watch("a");
    const sequence = await publishJob(0);
    const id = freshId();
    expect(actor.mustLook(0, sequence, id)).toBe(false);
    await broker.kill();
    expect(actor.mustLook(0, sequence, id)).toBe(true);
    expect(actor.mustLook(0, sequence + 1_000, id)).toBe(true);
    await broker.restart();
    for (const deadline = performance.now() + 15_000; actor.mustLook(0, sequence + 1_000, id); ) {
      if (performance.now() > deadline) throw new Error("no new mark");
      await broker.bus.flush(5_000);
    }
    expect(actor.mustLook(0, sequence, id)).toBe(true);
    expect(actor.mustLook(0, await publishJob(0), id)).toBe(false);
    actor.stop();
  }, 40_000);

  test("messages of another form are passed over", async () => {
    const actor = await watch("a");
    for (const text of [
      "",
      "{",
      "null",
      "[]",
      '{"cancel":"1","from":"x"}',
      '{"cancel":1}',
      '{"from":7,"cancel":null}',
    ]) {
      expect(parseControlRequest(text)).toBeNull();
      broker.bus.publish(subjects.control(freshId()), text);
    }
    broker.bus.publish("millrace.control.NOT-A-TASK", '{"cancel":1,"from":"x"}');
    expect((await ask(freshId(), 9, 1)).free).toBe(1);
    expect(actor.stopped).toHaveLength(1);
    actor.stop();
  });
});
