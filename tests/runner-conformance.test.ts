// The suite of src/testing.ts on every runner and plugin that ships, found as an actor finds them: a new file is part
// of it without being named here.
import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { loadDefinitions } from "../src/registry/loader.ts";
import { type ConformanceOptions, runnerConformance } from "../src/testing.ts";

const folder = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** Inputs with different answers, where the example alone would not show that tasks are kept apart. */
const optionsFor: Readonly<Record<string, ConformanceOptions>> = {
  echo: { inputs: [{ text: "a" }, { prompt: "b", sleep_ms: 1 }, { text: "c" }] },
  "word-count": { inputs: [{ text: "one" }, { text: "one two" }, { text: "" }] },
};

const { runners, problems } = await loadDefinitions({
  runnersDir: folder("runners"),
  pluginsDir: folder("plugins"),
  models: ["*"],
});

test("every shipped file loads", () => {
  expect(problems).toEqual([]);
  expect(runners.map(({ definition }) => definition.name)).toContain("echo");
});

for (const { definition } of runners) {
  for (const { name, run } of runnerConformance(definition, optionsFor[definition.name])) test(name, run);
}
