// The suite of src/testing.ts on every runner and plugin that ships, found as an actor finds them: a new file is part
// of it without being named here.
import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { loadDefinitions } from "../src/registry/loader.ts";
import { type ConformanceOptions, runnerConformance } from "../src/testing.ts";

const folder = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** Two pictures: 8 x 6 pixels of many colours (WebP), 5 x 3 of one (PNG). */
const pictures = [
  { image_base64: "UklGRioAAABXRUJQVlA4TB4AAAAvB0ABALmM6H/sIqL/ASEB4ZP/7yQLhmQAYwKQWjY=" },
  {
    image_base64:
      "iVBORw0KGgoAAAANSUhEUgAAAAUAAAADCAIAAADUVFKvAAAACXBIWXMAAAPoAAAD6AG1e1JrAAAAEElEQVQImWM4ISeCjBgI8AFqWw6nsNHnAQAAAABJRU5ErkJggg==",
  },
];

/** Inputs with different answers, where the example alone would not show that tasks are kept apart. */
const optionsFor: Readonly<Record<string, ConformanceOptions>> = {
  echo: { inputs: [{ text: "a" }, { prompt: "b", sleep_ms: 1 }, { text: "c" }] },
  "image-scoring": { inputs: pictures },
  "superres-x2": { inputs: pictures },
  "superres-x4": { inputs: pictures },
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
