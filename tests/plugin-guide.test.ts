// The plugins of plugins/README.md, as its reader writes them: each loads from a folder of its own, passes the suite,
// and answers what the guide says.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AnyRunner } from "../src/registry/define.ts";
import { loadDefinitions } from "../src/registry/loader.ts";
import { installModules } from "../src/registry/specifier.ts";
import { startSimulator } from "../src/sim/simulator.ts";
import { runnerConformance, testRunner } from "../src/testing.ts";

installModules({ millrace: () => import("../src/sdk.ts"), "millrace/testing": () => import("../src/testing.ts") });

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-guide-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The plugin under a heading of the guide, loaded from a file. */
async function pluginOf(heading: string, name: string): Promise<AnyRunner> {
  const guide = await Bun.file(new URL("../plugins/README.md", import.meta.url)).text();
  const [, section = ""] = guide.split(`## ${heading}\n`);
  const [block] = section.match(/```ts\n[\s\S]*?```/) ?? [""];
  await Bun.write(join(folder, `plugins/${name}.ts`), block.replaceAll("```ts", "").replaceAll("```", ""));
  const folders = { runnersDir: join(folder, "runners"), pluginsDir: join(folder, "plugins") };
  const { runners, problems } = await loadDefinitions({ ...folders, models: [name] });
  expect(problems).toEqual([]);
  const [model] = runners;
  if (!model) throw new Error("no runner");
  return model.definition;
}

test("the guide's plugin works", async () => {
  const model = await pluginOf("Five minutes", "my-model");
  const run = await testRunner(model, { input: { text: "a" } });
  expect(run.output).toEqual({ text: "A" });
  for (const check of runnerConformance(model)) await check.run();
});

test("the guide's plugin that calls a model works", async () => {
  const model = await pluginOf("Calling a model", "summarise");
  const simulator = await startSimulator();
  try {
    const llm = { baseUrl: simulator.url };
    const { output, deltas } = await testRunner(model, { input: model.example, llm });
    const { summary } = output as { summary: string };
    expect(summary).not.toBe("");
    expect(deltas.join("")).toBe(summary);
    for (const check of runnerConformance(model, { llm })) await check.run();
  } finally {
    await simulator.stop();
  }
});
