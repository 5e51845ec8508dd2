// The plugin of plugins/README.md, as its reader writes it: it loads from a folder of its own, passes the suite, and
// answers what the guide says.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadDefinitions } from "../src/registry/loader.ts";
import { installModules } from "../src/registry/specifier.ts";
import { runnerConformance, testRunner } from "../src/testing.ts";

installModules({ millrace: () => import("../src/sdk.ts"), "millrace/testing": () => import("../src/testing.ts") });

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-guide-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("the guide's plugin works", async () => {
  const guide = await Bun.file(new URL("../plugins/README.md", import.meta.url)).text();
  const [block] = guide.match(/```ts\n[\s\S]*?```/) ?? [""];
  await Bun.write(join(folder, "plugins/my-model.ts"), block.replaceAll("```ts", "").replaceAll("```", ""));
  const folders = { runnersDir: join(folder, "runners"), pluginsDir: join(folder, "plugins") };
  const { runners, problems } = await loadDefinitions({ ...folders, models: ["my-model"] });
  expect(problems).toEqual([]);
  const [model] = runners;
  if (!model) throw new Error("no runner");
  const run = await testRunner(model.definition, { input: { text: "a" } });
  expect(run.output).toEqual({ text: "A" });
  for (const check of runnerConformance(model.definition)) await check.run();
});
