import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Broker, startBroker } from "../../tests/broker.ts";
import { subjects } from "../bus/subjects.ts";
import { deltasOf, readEarlierDeltas } from "./earlier-deltas.ts";

const record = (at: string, event: string, data: unknown = null): string => {
  const [attempt, n] = at.split(".").map(Number);
  return JSON.stringify({ v: 1, attempt, n, crashes: 0, event, data });
};
const of = (...texts: string[]) => deltasOf(texts.map((text) => ({ text })));
const started = (attempt: number) => record(`${attempt}.1`, "STARTED");
const delta = (at: string) => record(at, "delta", at);

describe("what watchers have", () => {
  test("the deltas of all attempts, in order", () => {
    expect(of()).toEqual([]);
    expect(of(started(1), record("1.2", "RETRY"), started(2))).toEqual([]);
    const second = [started(2), delta("2.2")];
    expect(
      of(started(1), delta("1.2"), record("1.3", "progress"), delta("1.4"), record("1.5", "RETRY"), ...second),
    ).toEqual(["1.2", "1.4", "2.2"]);
    // Handed back by a drain: the next one has the same number and counts on.
    expect(of(started(1), delta("1.2"), record("1.3", "log"), record("1.4", "STARTED"))).toEqual(["1.2"]);
  });

  test("nothing from before a reset", () => {
    expect(of(started(1), delta("1.2"), started(2), record("2.2", "reset"), delta("2.3"))).toEqual(["2.3"]);
    expect(of(delta("1.9"), record("2.2", "reset"), delta("2.3"))).toEqual(["2.3"]);
  });

  test("is not known where an event is missing, or of another form", () => {
    expect(of(delta("1.2"), delta("1.3"))).toBeNull(); // the beginning has aged out
    expect(of(started(1), delta("1.3"))).toBeNull();
    expect(of(started(1), delta("1.2"), record("1.4", "RETRY"), started(2))).toBeNull();
    expect(of(started(1), delta("1.2"), started(3))).toBeNull();
    expect(of(started(1), "not json", delta("1.2"))).toBeNull();
  });

  test("is not what a late attempt says", () => {
    expect(of(started(1), delta("1.2"), started(2), delta("1.3"))).toBeNull();
    expect(of(started(1), started(2), delta("2.2"), record("1.2", "reset"))).toBeNull();
  });
});

describe("from the log", () => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker();
  });
  afterAll(() => broker.stop());

  const publish = async (taskId: string, texts: readonly string[]) => {
    for (const text of texts) broker.bus.publish(subjects.events(taskId), text);
    await broker.bus.request(subjects.events("other"), started(1), { timeoutMs: 5_000 });
  };

  test("all of them, however many", async () => {
    const texts = Array.from({ length: 700 }, (_, i) => delta(`1.${i + 2}`));
    await publish("many", [started(1), ...texts]);
    const deltas = await readEarlierDeltas(broker.bus, "many", Date.now());
    expect(deltas).toHaveLength(700);
    expect(deltas?.at(-1)).toBe("1.701");
    expect(await readEarlierDeltas(broker.bus, "none", Date.now())).toEqual([]);
  });

  test("not those of an earlier task with the same id", async () => {
    await publish("again", [started(1), delta("1.2")]);
    expect(await readEarlierDeltas(broker.bus, "again", Date.now() + 60_000)).toEqual([]);
  });

  test("not more than can be held", async () => {
    const large = "x".repeat(30_000);
    const texts = Array.from({ length: 150 }, (_, i) => record(`1.${i + 2}`, "delta", large));
    await publish("large", [started(1), ...texts]);
    expect(await readEarlierDeltas(broker.bus, "large", Date.now())).toBeNull();
  });
});
