// What the documents point at must be there: back-ticked paths of the repository, relative links, and make targets.
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const root = join(import.meta.dir, "..");
const documents = [...new Bun.Glob("**/*.md").scanSync({ cwd: root })].filter(
  (file) => !/(^|\/)(node_modules|\.tools|data)\//.test(file),
);
const read = (file: string): string => readFileSync(join(root, file), "utf8");

/** Top folders whose content is ours; a path that starts elsewhere is an example or a product of running. */
const ours = /^(src|runners|plugins|prompts|nats|scripts|bench|tests|docs|examples|deploy|\.ci)\//;
const topFile = /^[\w.-]+\.(ts|md|yaml|yml|json|toml|lock)$|^(Makefile|LICENSE|\.env\.example)$/;
/** Named in documents as something a reader writes or gets, not as something that is there. */
const examples = /[<>*{}$…]|NNNN|plugins\/my-|\/\.\.\.|^(api|task|result|package-lock)\.(json|yaml)$/;

/** Back-ticked texts outside of fenced blocks, without a line number behind the path. */
function quotedPaths(text: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```/gm, "");
  return [...prose.matchAll(/`([^`\s]+)`/g)].map((match) => (match[1] ?? "").replace(/:\d+(-\d+)?$/, ""));
}

test("back-ticked paths exist", () => {
  const missing = documents.flatMap((file) =>
    quotedPaths(read(file))
      .filter((path) => (ours.test(path) || topFile.test(path)) && !examples.test(path))
      .filter((path) => !existsSync(join(root, path)) && !existsSync(join(root, dirname(file), path)))
      .map((path) => `${file}: ${path}`),
  );
  expect(missing).toEqual([]);
});

test("relative links lead somewhere", () => {
  const missing = documents.flatMap((file) =>
    [...read(file).matchAll(/\]\((?!\w+:|#|\/)([^)#\s]+)/g)]
      .map((match) => match[1] ?? "")
      .filter((path) => !existsSync(join(root, dirname(file), path)))
      .map((path) => `${file}: ${path}`),
  );
  expect(missing).toEqual([]);
});

test("make targets that documents name exist", () => {
  const targets = new Set([...read("Makefile").matchAll(/^([a-z][\w -]*):/gm)].flatMap((m) => (m[1] ?? "").split(" ")));
  const missing = documents.flatMap((file) =>
    [...read(file).matchAll(/(?:`|^|&& )make ([a-z][\w-]*)/gm)]
      .map((match) => match[1] ?? "")
      .filter((target) => !targets.has(target))
      .map((target) => `${file}: make ${target}`),
  );
  expect(missing).toEqual([]);
});
