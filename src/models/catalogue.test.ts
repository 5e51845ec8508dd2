import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import { bucketSubject, buckets } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { type Log, silentLog } from "../log.ts";
import type { RunnerDescription } from "../registry/description.ts";
import { announceModels, presenceOf } from "./announce.ts";
import { type Catalogue, openCatalogue } from "./catalogue.ts";

let broker: Broker;
let catalogue: Catalogue;
let nowMs = 1_700_000_000_500;
const clock: Clock = { now: () => nowMs, monotonicMs: () => nowMs };
const warned = signal();
const warnings: string[] = [];
const log: Log = {
  ...silentLog,
  warn: (_: object, message?: string) => {
    warnings.push(message ?? "");
    warned.notify();
  },
};

beforeAll(async () => {
  broker = await startBroker({ partitions: 1 });
});
afterAll(() => broker.stop());
beforeEach(async () => {
  catalogue = await openCatalogue(broker.bus, {}, clock, log);
});
afterEach(() => catalogue.stop());

const model = (name: string, fields: Partial<RunnerDescription> = {}): RunnerDescription => ({
  name,
  version: "1.0.0",
  summary: "A test.",
  inputSchema: { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false },
  outputSchema: {},
  slots: 2,
  timeoutMs: 1_000,
  maxAttempts: 3,
  sdk: 1,
  ...fields,
});
/** Until the catalogue shows it: it follows its buckets. */
async function until(holds: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 15_000; !holds(); ) {
    if (performance.now() > deadline) throw new Error(`not in time: ${holds}`);
    await broker.bus.flush(5_000);
  }
}
function present(id: string, models: readonly string[], gone = false): void {
  const descriptions = models.map((name) => model(name));
  const { subject, entry } = presenceOf({ id, gpu: "0" }, descriptions, nowMs);
  broker.bus.publish(subject, gone ? "" : JSON.stringify(entry));
}

describe("the catalogue", () => {
  test("knows what was announced before it was opened, and hears of what comes later", async () => {
    await announceModels(broker.bus, [model("early")]);
    const other = await openCatalogue(broker.bus, {}, clock, log);
    expect(other.knows("early")).toBe(true);
    other.stop();
    expect(catalogue.get("late")).toBeUndefined();
    await announceModels(broker.bus, [model("late"), model("another", { example: { n: 1 } })]);
    await until(() => catalogue.knows("late") && catalogue.knows("another"));
    expect(catalogue.get("another")).toEqual({
      name: "another",
      version: "1.0.0",
      summary: "A test.",
      inputSchema: model("x").inputSchema,
      outputSchema: {},
      example: { n: 1 },
      slots: 2,
      timeoutMs: 1_000,
      maxAttempts: 3,
      actors: 0,
      healthy: false,
      createdS: 1_700_000_000,
    });
    expect(catalogue.list().map(({ name }) => name)).toEqual(["another", "early", "late"]);
  });

  test("checks inputs against the newest schema; a model that it does not know accepts nothing", async () => {
    await announceModels(broker.bus, [model("checked")]);
    await until(() => catalogue.knows("checked"));
    expect(catalogue.check("checked", { n: 1 })).toEqual([]);
    expect(catalogue.check("checked", { n: "1" }).map(({ path }) => path)).toEqual(["/n"]);
    const changed = model("checked", { version: "2.0.0", inputSchema: { type: "string" } });
    await announceModels(broker.bus, [changed]);
    await until(() => catalogue.get("checked")?.version === "2.0.0");
    expect(catalogue.check("checked", "text")).toEqual([]);
    expect(catalogue.check("checked", { n: 1 })).not.toEqual([]);
    expect(catalogue.check("nobody", {})).not.toEqual([]);
  });

  test("a schema that cannot be used lets no task in, and harms no other model", async () => {
    await announceModels(broker.bus, [model("broken", { inputSchema: { type: "no-such-type" } }), model("sound")]);
    await until(() => catalogue.knows("broken") && catalogue.knows("sound"));
    present("a-1", ["broken", "sound"]);
    await until(() => catalogue.liveActors().length > 0);
    expect(catalogue.check("broken", { n: 1 })).not.toEqual([]);
    expect([catalogue.get("broken")?.healthy, catalogue.get("sound")?.healthy]).toEqual([false, true]);
    present("a-1", [], true);
  });

  test("an entry that cannot be read is left out, with a warning", async () => {
    warnings.length = 0;
    const known = catalogue.list().map(({ name }) => name);
    const mad = ["{", "null", '{"v":1}', '{"v":1,"model":{}}', JSON.stringify({ v: 2, model: model("mad") })];
    for (const [i, text] of mad.entries()) {
      broker.bus.publish(bucketSubject(buckets.models, `mad-${i}`), text);
      broker.bus.publish(bucketSubject(buckets.actors, `mad-${i}`), text);
    }
    broker.bus.publish(bucketSubject(buckets.actors, "mad"), '{"v":1,"id":"mad","models":"echo"}');
    const odd = { v: 1, id: "odd", gpu: "0", models: [], startedAtMs: 0, llm: { one: { models: "all", ready: true } } };
    broker.bus.publish(bucketSubject(buckets.actors, "odd"), JSON.stringify(odd));
    await warned.until(() => warnings.length >= 2 * mad.length + 2);
    expect(catalogue.list().map(({ name }) => name)).toEqual(known);
    expect(catalogue.liveActors().map(({ id }) => id)).not.toContain("mad");
    await announceModels(broker.bus, [model("after")]);
    await until(() => catalogue.knows("after"));
  });

  test("actors live while they say so: gone when they say it, or after ten silent seconds", async () => {
    await announceModels(broker.bus, [model("served")]);
    present("one", ["served"]);
    present("two", ["served", "other"]);
    present("prefix.two", ["served"]);
    await until(() => catalogue.liveActors().length === 3);
    expect(catalogue.get("served")).toMatchObject({ actors: 3, healthy: true });
    present("two", [], true);
    await until(() => catalogue.liveActors().length < 3);
    expect(
      catalogue
        .liveActors()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(["one", "prefix.two"]);
    present("prefix.two", [], true);
    await until(() => catalogue.liveActors().length < 2);
    present("three", ["served"]);
    await until(() => catalogue.liveActors().length === 2);
    nowMs += 9_000;
    present("one", ["served"]);
    present("four", []); // comes after "one" on the same way
    await until(() => catalogue.liveActors().length === 3);
    nowMs += 2_000;
    expect(
      catalogue
        .liveActors()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(["four", "one"]);
    expect(catalogue.get("served")).toMatchObject({ actors: 1, healthy: true });
    nowMs += 11_000;
    expect(catalogue.get("served")).toMatchObject({ actors: 0, healthy: false });
    expect(catalogue.knows("served")).toBe(true);
  });

  test("the same description is not written twice", async () => {
    await announceModels(broker.bus, [model("once")]);
    const sequence = async (): Promise<number> => {
      const reply = await broker.bus.request("$JS.API.STREAM.INFO.KV_models", "", { timeoutMs: 5_000 });
      return JSON.parse(reply.text()).state.last_seq;
    };
    const before = await sequence();
    await announceModels(broker.bus, [model("once"), model("once")]);
    expect(await sequence()).toBe(before);
    await announceModels(broker.bus, [model("once", { version: "1.0.1" })]);
    expect(await sequence()).toBe(before + 1);
  });
});
