// README.md as its reader follows it: its commands and its script are run as they stand against a service that was started
// as it says, and the output that it shows of `make demo` is what the demo prints.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(60_000);

const root = join(import.meta.dir, "..");
const readme = await readFile(join(root, "README.md"), "utf8");
/** The code blocks of a language, in their order. */
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "gm"))].map((match) => match[1] ?? "");

let stack: Stack;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-readme-"));
  stack = await startStack({ apiKeys: "dev-key", settings: { MODELS: "echo,superres-x2,image-scoring" } });
  await stack.until("the model is known", 10_000, async () =>
    (await stack.call("GET", "/v1/models/millrace-sim")).status === 200 ? true : null,
  );
});
afterAll(async () => {
  await stack.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What a command prints, with the service of this test in place of the reader's. */
async function run(
  command: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const bin = join(process.execPath, "..");
  const child = Bun.spawn(
    command.map((part) => part.replaceAll("http://127.0.0.1:8000", stack.url)),
    {
      cwd,
      env: { HOME: folder, PATH: `${bin}:${process.env.PATH ?? ""}`, ...env },
      stdio: ["ignore", "pipe", "ignore"],
    },
  );
  const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
  const text = await child.stdout.text();
  expect([command, await child.exited]).toEqual([command, 0]);
  clearTimeout(late);
  return text;
}

/** What a reader should see of each shell block, in their order. */
const expected: readonly RegExp[] = [
  /^data: \{[\s\S]*"content":"Hello"[\s\S]*\n\ndata: \[DONE\]\n\n$/,
  /"status":"SUCCESS".*"result":\{"echo":\{"text":"hello"\}\}/,
  /"status":"SUCCESS".*"result":\{"echo":\{"text":"hello"\}\}/,
  /"status": ?"SUCCESS"/,
];

test.skipIf(Bun.which("curl") === null)("its commands do what it says (skipped without curl)", async () => {
  const commands = blocks("sh");
  expect(commands).toHaveLength(expected.length);
  const env = { MILLRACE_URL: stack.url, MILLRACE_API_KEY: "dev-key" };
  for (const [index, command] of commands.entries()) {
    expect(await run(["bash", "-ec", command], root, env)).toMatch(expected[index] ?? /^never$/);
  }
});

test("its script prints an answer", async () => {
  const [script = ""] = blocks("ts");
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  await Bun.write(join(folder, "talk.ts"), script.replace("http://127.0.0.1:8000", stack.url));
  expect(await run([process.execPath, "talk.ts"], folder)).toBe("A millrace leads water to the wheel of a mill.");
});

test("the demo prints what it shows, but for ids and numbers of time", async () => {
  const shown = blocks("").find((block) => block.startsWith("starting millrace")) ?? "";
  const env = { DATA_DIR: join(folder, "data"), PORT: "0", SIM_PORT: "0", DURABILITY: "fast" };
  const printed = (await run([process.execPath, "scripts/demo.ts"], root, env)).split("\n").map(masked);
  const lines = shown.split("\n").filter((line) => !/^ +…|\+\d+ ms +progress|data in/.test(line));
  expect(lines.length).toBeGreaterThan(10);
  expect(lines.map(masked).filter((line) => !printed.includes(line))).toEqual([]);
});

test("the tests that it names are there", async () => {
  const names = [...readme.matchAll(/^\(pass\) (.+) \[[\d.]+ms\]$/gm)].map((match) => match[1] ?? "");
  const files = [...new Bun.Glob("{src,tests}/**/*.test.ts").scanSync({ cwd: root })];
  const sources = (await Promise.all(files.map((file) => readFile(join(root, file), "utf8")))).join("\n");
  expect(names).not.toEqual([]);
  expect(names.filter((name) => !sources.includes(`test("${name}"`))).toEqual([]);
});

const masked = (line: string): string =>
  line
    .replace(/accepted as \w+/, "accepted as ID")
    .replace(/\+\d+ ms +/, "+T ")
    .replace(/:\d+$/, ":PORT")
    .replace(/\d+(\.\d+)?(?= (ms|s)\b)|(?<=(queue|prepare|infer|postprocess|upload|total) )\d+(\.\d+)?/g, "T");
