// The registry alone: what is written comes out in the form that Prometheus reads, and nothing grows without a limit.
import { expect, test } from "bun:test";
import fc from "fast-check";
import { silentLog } from "../log.ts";
import { createMetrics, Histogram } from "./metrics.ts";

test("counters and histograms come out as exposition text, labels escaped", async () => {
  const metrics = createMetrics(silentLog);
  const counter = metrics.counter({ name: "a_total", help: "Counts\n\\a.", labels: ["x", "y"] });
  counter.of('say "hi"\n\\', "1").add();
  counter.of('say "hi"\n\\', "1").add(2);
  const histogram = metrics.histogram({ name: "b_seconds", help: "Times.", bounds: [0.1, 1] });
  for (const value of [0.05, 0.1, 0.5, 7]) histogram.of().observe(value);
  expect(await metrics.text()).toBe(
    [
      "# HELP a_total Counts\\n\\\\a.",
      "# TYPE a_total counter",
      'a_total{x="say \\"hi\\"\\n\\\\",y="1"} 3',
      "# HELP b_seconds Times.",
      "# TYPE b_seconds histogram",
      'b_seconds_bucket{le="0.1"} 2',
      'b_seconds_bucket{le="1"} 3',
      'b_seconds_bucket{le="+Inf"} 4',
      "b_seconds_sum 7.65",
      "b_seconds_count 4",
      "",
    ].join("\n"),
  );
});

test("a value falls into the first bucket that holds it, and all of them add up", () => {
  const bounds = [0.001, 0.01, 0.1, 1];
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 10, noNaN: true })), (values) => {
      const histogram = new Histogram(bounds);
      for (const value of values) histogram.observe(value);
      const above = [...bounds, Number.POSITIVE_INFINITY];
      const expected = above.map((bound, i) => values.filter((v) => v <= bound && v > (above[i - 1] ?? -1)).length);
      expect([...histogram.counts]).toEqual(expected);
    }),
  );
});

test("a family with no label starts at zero, one with labels has no series before the first event", async () => {
  const metrics = createMetrics(silentLog);
  metrics.counter({ name: "a_total", help: "A." });
  metrics.counter({ name: "b_total", help: "B.", labels: ["x"] });
  expect(await metrics.text()).toBe("# HELP a_total A.\n# TYPE a_total counter\na_total 0\n");
});

test("what is asked for at the scrape may fail, and takes nothing else with it", async () => {
  const metrics = createMetrics(silentLog);
  metrics.sampled({ name: "a", help: "A.", type: "gauge", read: () => Promise.reject(new Error("away")) });
  metrics.sampled({ name: "b", help: "B.", type: "gauge", read: () => [{ labels: [["x", "1"]], value: Infinity }] });
  expect(await metrics.text()).toBe('# HELP b B.\n# TYPE b gauge\nb{x="1"} +Inf\n');
});

test("what takes too long is left out, and the rest does not wait for ever", async () => {
  const metrics = createMetrics(silentLog, 20);
  metrics.sampled({ name: "a", help: "A.", type: "gauge", read: () => new Promise<number>(() => {}) });
  metrics.sampled({ name: "b", help: "B.", type: "gauge", read: () => 1 });
  expect(await metrics.text()).toBe("# HELP b B.\n# TYPE b gauge\nb 1\n");
});

test("beyond its limit a family counts under other, and loses nothing", async () => {
  const metrics = createMetrics(silentLog);
  const counter = metrics.counter({ name: "a_total", help: "A.", labels: ["model"] });
  for (let i = 0; i < 3_000; i++) counter.of(`m${i}`).add();
  const lines = (await metrics.text()).split("\n").filter((line) => line.startsWith("a_total"));
  expect(lines).toHaveLength(1_000);
  expect(lines.at(-1)).toBe('a_total{model="other"} 2001');
});

test("a name that is taken, and a wrong number of labels, are mistakes of ours", () => {
  const metrics = createMetrics(silentLog);
  const counter = metrics.counter({ name: "a_total", help: "A.", labels: ["x"] });
  expect(() => metrics.counter({ name: "a_total", help: "A." })).toThrow(RangeError);
  expect(() => metrics.counter({ name: "a-b", help: "A." })).toThrow(RangeError);
  expect(() => counter.of()).toThrow(RangeError);
});
