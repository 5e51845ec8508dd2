import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { discover } from "./discover.ts";
import { loadDefinitions } from "./loader.ts";
import { installModules } from "./specifier.ts";

// The plugins of these tests lie outside the repository, as an operator's may: only the registered module serves them.
installModules({ millrace: () => import("../sdk.ts") });

let root = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "millrace-loader-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const folders = () => ({ runnersDir: join(root, "runners"), pluginsDir: join(root, "plugins") });

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

const definition = (name: string): string =>
  `defineRunner({ name: "${name}", version: "1.0.0", summary: "A test.", input: t.Object({}), output: t.Object({}),
     prepare: (input) => input, infer: (input) => input, postprocess: () => ({}) })`;
const runner = (...names: string[]): string =>
  `import { defineRunner, t } from "millrace";\nexport default [${names.map(definition).join(", ")}];\n`;

const load = async (models = ["*"]) => {
  const { runners, problems } = await loadDefinitions({ ...folders(), models, importMsMax: 200 });
  return {
    names: runners.map((loaded) => loaded.definition.name),
    problems: Object.fromEntries(problems.map(({ file, reason }) => [relative(root, file), reason])),
    runners,
  };
};

test("the file name says what an actor imports", async () => {
  const skipped = ["plugins/b.test.ts", "plugins/c.d.ts", "plugins/.hidden.ts", "plugins/d.js", "plugins/e/app.ts"];
  const taken = ["runners/z.ts", "plugins/a.ts", "plugins/f/plugin.ts"];
  const more = [
    "plugins/f/plugin.test.ts",
    "plugins/g/inner.ts",
    "plugins/node_modules/plugin.ts",
    "runners/README.md",
  ];
  await write(Object.fromEntries([...skipped, ...taken, ...more].map((path) => [path, "export {};"])));
  expect((await discover(folders())).map((path) => relative(root, path))).toEqual(taken);
});

test("missing folders hold nothing", async () => {
  expect(await discover(folders())).toEqual([]);
});

test("one file may define several runners; MODELS selects among them", async () => {
  await write({ "runners/one.ts": runner("one"), "plugins/more.ts": runner("superres-2x", "superres-4x") });
  expect((await load()).names).toEqual(["one", "superres-2x", "superres-4x"]);
  const selected = await load(["superres-*", "chat"]);
  expect(selected.names).toEqual(["superres-2x", "superres-4x"]);
  expect(selected.problems).toEqual({ [relative(root, "MODELS")]: "chat names no runner" });
});

test("a file carries the hash of its content", async () => {
  await write({ "runners/one.ts": runner("one") });
  const [loaded] = (await load()).runners;
  expect(loaded?.sha256).toBe(new Bun.CryptoHasher("sha256").update(runner("one")).digest("hex"));
});

test("of two runners with one name the first keeps it", async () => {
  await write({ "runners/b.ts": runner("same"), "plugins/a.ts": runner("same"), "plugins/c.ts": runner("other") });
  const { names, runners, problems } = await load();
  expect(names).toEqual(["same", "other"]);
  expect(runners[0]?.file).toBe(join(root, "runners/b.ts"));
  expect(problems["plugins/a.ts"]).toContain("the name same is taken by");
});

test("a broken file is told with its reason and the others load", async () => {
  await write({
    "plugins/a-syntax.ts": "export default {{{",
    "plugins/b-throws.ts": 'throw new Error("no GPU here");',
    "plugins/c-hangs.ts": "await new Promise(() => {}); export default 1;",
    "plugins/d-empty.ts": "export const runner = 1;",
    "plugins/e-plain.ts": 'export default { name: "x" };',
    "plugins/f-package.ts": 'import "no-such-package-of-millrace"; export default 1;',
    "plugins/g-range.ts": runner("x").replace("summary", "slots: 0, summary"),
    "plugins/h-good.ts": runner("good"),
  });
  const { names, problems } = await load();
  expect(names).toEqual(["good"]);
  expect(problems["plugins/a-syntax.ts"]).toMatch(/\(line 1\)$/);
  expect(problems["plugins/b-throws.ts"]).toBe("no GPU here");
  expect(problems["plugins/c-hangs.ts"]).toBe("the import did not end within 200 ms");
  expect(problems["plugins/d-empty.ts"]).toContain("default export must be defineRunner");
  expect(problems["plugins/e-plain.ts"]).toContain("default export must be defineRunner");
  expect(problems["plugins/f-package.ts"]).toContain("no-such-package-of-millrace");
  expect(problems["plugins/g-range.ts"]).toContain("slots must be a whole number");
  expect(Object.keys(problems)).toHaveLength(7);
});
