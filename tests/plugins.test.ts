// A plugins folder as an author has it: outside the repository, without node_modules, with good files and broken ones.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(60_000);

let stack: Stack;
let folder: string;

const runner = (name: string, body: string, head = ""): string => `${head}
import { defineRunner, RunnerError, t } from "millrace";

export default defineRunner({
  name: "${name}",
  version: "1.0.0",
  summary: "A plugin of a test.",
  input: t.Object({ text: t.String({ maxLength: 100 }) }),
  output: t.Object({ text: t.String() }),
${body}
});
`;

const stages = `  prepare: (input) => input.text,
  infer: (text) => text,
  postprocess: (text) => ({ text }),`;

const files: Readonly<Record<string, string>> = {
  "shout.ts": runner("shout", stages.replace("(text) => text", "(text) => text.toUpperCase()")),
  // A folder with a file of its own beside it, and the state that `load` made.
  "greet/plugin.ts": runner(
    "greet",
    `  load: () => ({ greeting: word }),
  prepare: (input) => input.text,
  infer: (text, ctx) => [ctx.state.greeting, text].join(", "),
  postprocess: (text) => ({ text }),`,
    'import { word } from "./word.ts";',
  ),
  "greet/word.ts": 'export const word = "Hello";\n',
  "greet/app.ts": 'throw new Error("an app is no business of an actor");\n',
  "notes.test.ts": 'throw new Error("a test is no plugin");\n',
  "syntax.ts": "export default defineRunner({ name: ;\n",
  "throws.ts": 'throw new Error("no model on this disk");\n',
  "empty.ts": "export const nothing = 1;\n",
  "missing.ts": 'import { nothing } from "no-such-package";\nexport default nothing;\n',
  "echo.ts": runner("echo", stages),
  "loads-never.ts": runner("loads-never", `  load: () => { throw new Error("out of memory"); },\n${stages}`),
  "liar.ts": runner("liar", stages.replace("({ text })", "({ text: 1, more: true })")),
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace plugins "));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  stack = await startStack({ settings: { PLUGINS_DIR: folder } });
});

afterAll(async () => {
  await stack.stop();
  await rm(folder, { recursive: true, force: true });
});

const run = async (model: string, text: string) =>
  stack.ended((await stack.submit({ model, input: { text } })).task_id);

test("files that import from millrace run as they are, a folder with a plugin.ts too", async () => {
  expect(await run("shout", "hello")).toMatchObject({ status: "SUCCESS", result: { text: "HELLO" } });
  expect(await run("greet", "miller")).toMatchObject({ status: "SUCCESS", result: { text: "Hello, miller" } });
});

test("the gateway knows their schemas and refuses what does not match", async () => {
  const model = (await (await stack.call("GET", "/v1/models/shout")).json()) as { millrace: { input_schema: object } };
  expect(model.millrace.input_schema).toMatchObject({ properties: { text: { maxLength: 100 } } });
  const refused = await stack.call("POST", "/v1/tasks", { model: "shout", input: { text: "x".repeat(101) } });
  expect(refused.status).toBe(422);
  expect(await refused.json()).toMatchObject({ code: "invalid_request", errors: [{ path: "/input/text" }] });
});

test.each([
  ["syntax.ts", /Unexpected ;|Expected/],
  ["throws.ts", /no model on this disk/],
  ["empty.ts", /default export/],
  ["missing.ts", /no-such-package/],
  ["echo.ts", /the name echo is taken/],
])("%s is reported with its name and the reason, and left out", async (name, reason) => {
  const line = await stack.logged({ message: "runner file left out", file: join(folder, name) });
  expect(line.reason).toMatch(reason);
});

test("a runner that cannot load is reported and not offered", async () => {
  const line = await stack.logged({ message: "runner left out", model: "loads-never" });
  expect(line.reason).toMatch(/out of memory/);
  const refused = await stack.call("POST", "/v1/tasks", { model: "loads-never", input: { text: "" } });
  expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([404, "unknown_model"]);
});

test("the rest goes on: the built-in runners too, and none is replaced by a plugin of its name", async () => {
  expect(await run("echo", "built in")).toMatchObject({ result: { echo: { text: "built in" } } });
  const { data } = (await (await stack.call("GET", "/v1/models")).json()) as { data: { id: string }[] };
  const offered = data.map(({ id }) => id);
  expect(offered).toContainValues(["echo", "shout", "greet", "liar", "superres-x2", "image-scoring"]);
  expect(offered).not.toContain("loads-never");
  const left = stack.log().filter(({ message }) => message === "runner file left out");
  expect(left).toHaveLength(5);
});

test("an answer against its own schema is a FAILURE that no attempt repairs", async () => {
  const error = { code: "invalid_output", stage: "output", retryable: false };
  expect(await run("liar", "trust me")).toMatchObject({ status: "FAILURE", attempt: 1, error });
});
