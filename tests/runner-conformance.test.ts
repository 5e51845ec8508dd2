// The suite of src/testing.ts on every runner and plugin that ships, found as an actor finds them: a new file is part
// of it without being named here. Models are called at the simulator.
import { afterAll, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { loadDefinitions } from "../src/registry/loader.ts";
import { startSimulator } from "../src/sim/simulator.ts";
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
  chat: {
    inputs: [
      { messages: [{ role: "user", content: "What is a mill?" }], max_tokens: 16 },
      { messages: [{ role: "user", content: "What is a race?" }], seed: 7, temperature: 0.5 },
    ],
  },
  completion: { inputs: [{ prompt: "The mill" }, { prompt: "The race", max_tokens: 4 }] },
  embed: { inputs: [{ input: "a" }, { input: ["b", "c"] }, { input: "d", dimensions: 8 }] },
  "image-generate": { inputs: [{ prompt: "a cat" }, { prompt: "a dog", size: "32x32" }] },
  "image-scoring-vlm": { inputs: pictures },
  speech: { inputs: [{ text: "One." }, { text: "Two and three.", speed: 2 }] },
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

const simulator = await startSimulator();
afterAll(() => simulator.stop());

for (const { definition } of runners) {
  const options = { ...optionsFor[definition.name], llm: { baseUrl: simulator.url } };
  for (const { name, run } of runnerConformance(definition, options)) test(name, run);
}
